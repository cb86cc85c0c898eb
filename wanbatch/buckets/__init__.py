"""Objects in buckets through fsspec: signed, read, and written so that nothing is replaced. Everything blocks.

Credentials and endpoints are found as each store's own tools find them, and as fsspec's configuration says
(https://filesystem-spec.readthedocs.io/en/latest/features.html#configuration): they are no options of ours.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from wanbatch.buckets.facts import Facts, Stat, facts_of
from wanbatch.buckets.stores import store_of
from wanbatch.errors import StorageError, UsageError
from wanbatch.identity import BUCKETS, TEMPORARY_STORE, without_signature
from wanbatch.redact import scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from wanbatch.buckets.stores import Store

__all__ = [
    "Facts",
    "Stat",
    "facts_of",
    "is_bucket",
    "is_same",
    "keep",
    "off_loop",
    "presigned",
    "read",
    "remove",
    "shown",
    "stat",
]

_T = TypeVar("_T")
_PIECE = 8 * 1024 * 1024


def is_bucket(medium: str) -> bool:
    """Whether a medium is an object in a bucket of the user's, not the service's own temporary store."""
    return medium.startswith(BUCKETS) and not medium.startswith(TEMPORARY_STORE)


def stat(url: str) -> Stat | None:
    """Look at an object; None when there is none. Raises `StorageError`, and `UsageError` for a missing package."""
    try:
        return _asked(url, "read", lambda store: store.stat(url))
    except FileNotFoundError:
        return None


def read(url: str, start: int, end: int) -> bytes:
    """Give the bytes from `start` up to, not with, `end`; raises `StorageError`, `UsageError`."""
    try:
        return _asked(url, "read", lambda store: store.read(url, start, end))
    except FileNotFoundError:
        raise StorageError(f"{shown(url)}: is not there; mend the URL") from None


def presigned(url: str, seconds: int) -> str:
    """Give an http(s) URL that opens the object to anybody for so long: a secret.

    Raises `StorageError` when the credentials can't sign, `UsageError` when the store can't.
    """
    try:
        return _asked(url, "signed", lambda store: store.sign(url, seconds))
    except NotImplementedError:
        scheme = url.partition(":")[0]
        raise UsageError(f"{scheme}:// gives no URLs to its objects; use s3://, oss:// or gs://") from None


def keep(file: Path, url: str, facts: Facts, *, content_type: str, metadata: Mapping[str, str]) -> bool:
    """See that the object is there and is the file, uploading it when there is none; False: another one is there.

    Doing it again changes nothing, also after an upload whose answer was lost. Raises `StorageError`, `UsageError`.
    """
    told = stat(url)
    if told is not None:
        return is_same(url, told, facts)
    failed: StorageError | None = None
    try:
        _asked(
            url, "written", lambda store: store.put(file, url, content_type=content_type, metadata=metadata)
        )
    except StorageError as error:
        failed = error
    except FileNotFoundError:
        failed = StorageError(
            f"{shown(url)}: can't be written: there is no such bucket; make it, or mend the URL"
        )
    told = stat(url)
    if told is not None and is_same(url, told, facts):
        return True
    if failed and told is None:
        raise failed
    if failed:
        return False  # somebody else's came in between
    raise StorageError(f"{shown(url)}: is not what was written; look at the bucket, and run again")


def is_same(url: str, told: Stat, facts: Facts) -> bool:
    """Say whether an object is a local file: by length, by a checksum that both know, else by all its bytes.

    A checksum that differs proves nothing: with some encryptions an ETag is no MD5. Raises `StorageError`.
    """
    if told.size != facts.size:
        return False
    if told.checksums & facts.checksums:
        return True
    digest = hashlib.sha256()
    for start in range(0, told.size, _PIECE):
        digest.update(read(url, start, min(start + _PIECE, told.size)))
    return digest.hexdigest() == facts.sha256


def remove(url: str) -> None:
    """Delete an object; raises `StorageError` where that is not allowed."""
    with suppress(FileNotFoundError):
        _asked(url, "deleted", lambda store: store.remove(url))


async def off_loop(call: Callable[..., _T], *args: Any) -> _T:
    """Do one of these blocking things in a thread of its own.

    Not in a pool's: a slow bucket must not keep those from everybody else, and a process that is told to end at once
    would wait for them. What is cut off then is made good by the next run.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()
    work = partial(copy_context().run, call, *args)
    _in_thread(partial(_settle, loop, done, work))
    return await done


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="bucket", daemon=True).start()


def _settle(loop: asyncio.AbstractEventLoop, done: asyncio.Future[_T], work: Callable[[], _T]) -> None:
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
        tell = partial(done.set_exception, error)
    else:
        tell = partial(done.set_result, result)
    with suppress(RuntimeError):  # the loop is gone, and whoever waited
        loop.call_soon_threadsafe(lambda: None if done.done() else tell())


def shown(url: str) -> str:
    """Name an object in a message: on one line, without credentials."""
    return scrub(without_signature(url))


def _asked(url: str, done: str, ask: Callable[[Store], _T]) -> _T:
    """Ask the store of a URL; whatever it raises becomes one line, but for what callers tell apart."""
    store = store_of(url.partition(":")[0])
    try:
        return ask(store)
    except (FileNotFoundError, NotImplementedError):
        raise
    except Exception as error:  # noqa: BLE001 - every store has its own errors, and their texts may quote a signature
        raise StorageError(
            f"{shown(url)}: can't be {done} ({type(error).__name__}); see that the bucket is there and that your "
            "credentials may do it"
        ) from None
