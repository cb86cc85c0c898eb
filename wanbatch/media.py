"""How an item's media become URLs that the service can fetch.

http(s) URLs are passed on as they are. Objects in a bucket are signed just before each submit, for as long as the
edit may wait; the signature is never stored. Local files go into a bucket of the user's (`--stage`) and are signed
there, or else through the service's temporary store, which keeps them for 48 hours and is not meant for production:
https://www.alibabacloud.com/help/en/model-studio/get-temporary-file-url
"""

from __future__ import annotations

import asyncio
import itertools
import mimetypes
import re
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from wanbatch.buckets import facts_of, is_bucket, keep, off_loop, presigned, shown, stat
from wanbatch.catalogue import Verdict, rule
from wanbatch.errors import BadAnswer, LeftOpen, NeverSent, ProbeError, Refused, StorageError, UsageError
from wanbatch.identity import BUCKETS, is_url, item_key, media_identity
from wanbatch.naming import safe_name
from wanbatch.pace import delay
from wanbatch.storage import prepare
from wanbatch.watch import account_stopped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wanbatch.client import WanClient
    from wanbatch.models import Item
    from wanbatch.pace import Clock

SIGNED_S = 26 * 3600
"""An edit may wait for 24 hours before the service fetches its input; every store signs for 7 days."""
_TRIES = 4
_KEPT_S = 24 * 3600.0
"""The temporary store keeps a file for 48 hours, and an edit may wait for some of them."""
_EXTENSION = re.compile(r"\.[a-z0-9]{1,5}")


class Media:
    """Makes media reachable. `pause` waits, and raises `LeftOpen` when the run is stopping."""

    def __init__(
        self,
        client: WanClient,
        clock: Clock,
        *,
        pause: Callable[[float], Awaitable[None]],
        stage: str | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._pause = pause
        self._stage = stage and stage.rstrip("/")
        self._kept: dict[str, tuple[str, float]] = {}
        """Where each local file is, and since when."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def reachable(self, item: Item) -> list[str]:
        """Give an item's media as URLs for the service, the video first; some are secrets.

        Raises `ProbeError` for a medium that can't be given, `StorageError` when the stage refuses a file, `LeftOpen`,
        `AccountStopped`, `Refused`, `BadAnswer` or `NeverSent` when the temporary store does.
        """
        await off_loop(_unchanged, item)
        return [await self._reachable(medium) for medium in item.request.media]

    async def _reachable(self, medium: str) -> str:
        url = medium if is_url(medium) else await self._uploaded(medium)
        return await off_loop(_signed, url) if is_bucket(url) else url

    async def _uploaded(self, path: str) -> str:
        """Bring a local file to where the service can have it, once for all rows that name it."""
        identity = await off_loop(media_identity, path)
        lock = self._locks.setdefault(identity, asyncio.Lock())
        async with lock:
            url, since = self._kept.get(identity, ("", 0.0))
            if not url or self._clock.monotonic() - since > _KEPT_S:
                since = self._clock.monotonic()
                if self._stage:
                    url = await off_loop(_staged, Path(path), identity, self._stage)
                else:
                    url = await self._lent(Path(path), identity)
                self._kept[identity] = (url, since)
            return url

    async def _lent(self, file: Path, identity: str) -> str:
        """Put a file into the service's temporary store; nothing is paid, so it is tried again."""
        name = f"{identity.removeprefix('sha256:')[:16]}-{safe_name(file.stem)}{file.suffix.lower()}"
        for tries in itertools.count(1):
            try:
                return await self._client.upload(file, name)
            except Refused as error:
                _let_pass(error, last=tries >= _TRIES)
                await self._pause(delay(tries, retry_after_s=error.retry_after_s, wait_max_s=60.0))
            except (BadAnswer, NeverSent):
                if tries >= _TRIES:
                    raise
                await self._pause(delay(tries))
        raise AssertionError("unreachable")


def prepare_stage(stage: str) -> None:
    """See that files can be put there and signed, before anything is paid; raises `UsageError`, `StorageError`."""
    if not stage.startswith(BUCKETS):
        raise UsageError(f"--stage {shown(stage)}: is no bucket; write s3://, oss:// or gs://bucket/prefix")
    prepare(stage)
    presigned(f"{stage.rstrip('/')}/clip.mp4", SIGNED_S)


def _unchanged(item: Item) -> None:
    """Refuse an item whose local file is not the one it was planned with: it is another edit now."""
    local = any(not is_url(medium) for medium in item.request.media)
    if local and item_key(item.request, item.id) != item.key:
        raise ProbeError(f"{item.name}: a local file of this row has changed since the run began; run again")


def _signed(url: str) -> str:
    try:
        return presigned(url, SIGNED_S)
    except (StorageError, UsageError) as error:
        raise ProbeError(str(error)) from None


def _staged(file: Path, identity: str, stage: str) -> str:
    """See that a file is in the bucket, under the name of its own bytes; gives its bucket URL."""
    try:
        facts = facts_of(file)
    except OSError as error:
        raise ProbeError(f"{file}: {error.strerror or error}; give a readable file") from None
    if identity != f"sha256:{facts.sha256}":
        raise ProbeError(f"{file}: has changed since the run began; run again")
    extension = file.suffix.lower()
    url = f"{stage}/{facts.sha256}{extension if _EXTENSION.fullmatch(extension) else ''}"
    told = stat(url)
    if told is not None and told.size == facts.size:
        return url
    kind = mimetypes.guess_type(url)[0] or "application/octet-stream"
    if not keep(file, url, facts, content_type=kind, metadata={"wanbatch-sha256": facts.sha256}):
        raise StorageError(f"{shown(url)}: another object has this name; delete it, and run again")
    return url


def _let_pass(error: Refused, *, last: bool) -> None:
    """Raise what patience does not help against; nothing was paid, so what it may help against stays open."""
    verdict = rule(error.http_status, error.code, error.message).verdict
    if verdict is Verdict.STOP_RUN:
        raise account_stopped(error)
    if verdict not in {Verdict.THROTTLED, Verdict.TRANSIENT}:
        raise error
    if last:
        raise LeftOpen(f"the temporary store takes nothing just now ({error.code})")
