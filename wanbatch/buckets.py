"""Objects in buckets through fsspec, the differences between the stores kept in here. Everything blocks.

Credentials and endpoints are found as each store's own tools find them, and as fsspec's configuration says
(https://filesystem-spec.readthedocs.io/en/latest/features.html#configuration): they are no options of ours.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import fastcrc

from wanbatch.errors import StorageError, UsageError
from wanbatch.identity import BUCKETS, TEMPORARY_STORE, without_signature
from wanbatch.redact import scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_T = TypeVar("_T")
_PIECE = 8 * 1024 * 1024
_PART = 16 * 1024 * 1024
"""Bytes of one part of a multipart upload; what is not twice as long is sent in one piece."""
_PACKAGES = {"s3": "wanbatch[s3]", "oss": "wanbatch[oss]", "gs": "wanbatch[gs]"}
_THREADS = ThreadPoolExecutor(16, "bucket")
"""Of their own: a slow bucket must not keep the loop's default ones from everybody else."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What a store tells about an object: its length in bytes, and checksums as `md5:…`, `crc64:…`, `parts:…`."""

    size: int
    checksums: frozenset[str]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a local file is, in the same terms."""

    size: int
    sha256: str
    crc64: int
    md5: bytes
    checksums: frozenset[str]


class Store:
    """The store behind a scheme, as fsspec alone knows it."""

    def __init__(self, scheme: str, **settings: Any) -> None:
        # Slow to import with the store's package behind it, and many runs have no bucket at all.
        import fsspec  # noqa: PLC0415

        self.files = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True, **settings)

    def stat(self, url: str) -> Stat:
        """Look at an object; raises FileNotFoundError."""
        info = self.files.info(url)
        if info["type"] != "file":
            raise FileNotFoundError(url)
        return Stat(info["size"], frozenset(self._checksums(info)))

    def read(self, url: str, start: int, end: int) -> bytes:
        """Give the bytes from `start` up to, not with, `end`."""
        piece: bytes = self.files.cat_file(url, start=start, end=end)
        return piece

    def put(self, file: Path, url: str, *, content_type: str, metadata: Mapping[str, str]) -> None:
        """Upload a file; it appears when it is whole, and replaces nothing where the store can see to that."""
        self.files.put_file(str(file), url, **self._put_settings(content_type, dict(metadata)))

    def remove(self, url: str) -> None:
        """Delete an object."""
        self.files.rm_file(url)

    def sign(self, url: str, seconds: int) -> str:
        """Give a URL that opens the object to anybody for so long."""
        signed: str = self.files.sign(url, expiration=seconds)
        return signed

    def _put_settings(self, content_type: str, metadata: dict[str, str]) -> dict[str, Any]:
        del content_type, metadata  # fsspec has no common words for them
        return {}

    def _checksums(self, info: Mapping[str, Any]) -> Iterator[str]:
        del info
        yield from ()


class S3Store(Store):
    """S3, and what speaks like it (`AWS_ENDPOINT_URL`)."""

    def __init__(self, scheme: str) -> None:
        from fsspec.config import conf  # noqa: PLC0415 - as above

        # Version 4 opens encrypted objects and is all that some stores know; it names the bucket's own region.
        signing = {"signature_version": "s3v4"} | conf.get(scheme, {}).get("config_kwargs", {})
        super().__init__(scheme, version_aware=True, cache_regions=True, config_kwargs=signing)

    def put(self, file: Path, url: str, *, content_type: str, metadata: Mapping[str, str]) -> None:
        """Upload a file; it appears when it is whole, and replaces nothing where the store can see to that."""
        settings = {"ContentType": content_type, "Metadata": dict(metadata), "chunksize": _PART}
        try:
            self.files.put_file(str(file), url, mode="create", **settings)
        except OSError as error:
            if error.errno != errno.ENOSYS:  # it knows no `If-None-Match`
                raise
            self.files.put_file(str(file), url, **settings)

    def _checksums(self, info: Mapping[str, Any]) -> Iterator[str]:
        etag = str(info.get("ETag", "")).strip('"').lower()
        yield f"{'parts' if '-' in etag else 'md5'}:{etag}"


class OssStore(Store):
    """OSS; its fsspec package looks at an object by listing its folder and can't sign, so the SDK below does."""

    def stat(self, url: str) -> Stat:
        """Look at an object; raises FileNotFoundError."""
        told = self._call("head_object", url)
        return Stat(told.content_length, frozenset({f"crc64:{told.server_crc}"} if told.server_crc else ()))

    def read(self, url: str, start: int, end: int) -> bytes:
        """Give the bytes from `start` up to, not with, `end`."""
        piece: bytes = self.files.get_object(url, start, end - 1)
        return piece

    def remove(self, url: str) -> None:
        """Delete an object."""
        self._call("delete_object", url)

    def sign(self, url: str, seconds: int) -> str:
        """Give a URL that opens the object to anybody for so long."""
        bucket, key = self.files.split_path(url)
        signed: str = self._on(bucket, "sign_url", "GET", key, seconds, slash_safe=True)
        return signed

    def _call(self, method: str, url: str) -> Any:
        bucket, key = self.files.split_path(url)
        return self._on(bucket, method, key)

    def _on(self, bucket: str, method: str, *args: Any, **settings: Any) -> Any:
        return self.files._call_oss(method, *args, bucket=bucket, **settings)  # noqa: SLF001 - see the class

    def _put_settings(self, content_type: str, metadata: dict[str, str]) -> dict[str, Any]:
        own = {f"x-oss-meta-{name}": value for name, value in metadata.items()}
        return {"headers": {"Content-Type": content_type, "x-oss-forbid-overwrite": "true", **own}}


class GsStore(Store):
    """Google Cloud Storage."""

    def sign(self, url: str, seconds: int) -> str:
        """Give a URL that opens the object to anybody for so long."""
        signed: str = self.files.sign(url, expiration=seconds, version="v4")
        return signed

    def _put_settings(self, content_type: str, metadata: dict[str, str]) -> dict[str, Any]:
        return {"content_type": content_type, "metadata": metadata, "mode": "create"}

    def _checksums(self, info: Mapping[str, Any]) -> Iterator[str]:
        if md5 := info.get("md5Hash"):
            yield f"md5:{base64.b64decode(md5).hex()}"


_STORES: Mapping[str, Callable[[str], Store]] = {"s3": S3Store, "oss": OssStore, "gs": GsStore}


def is_bucket(medium: str) -> bool:
    """Whether a medium is an object in a bucket of the user's, not the service's own temporary store."""
    return medium.startswith(BUCKETS) and not medium.startswith(TEMPORARY_STORE)


@cache
def _store(scheme: str) -> Store:
    try:
        return _STORES.get(scheme, Store)(scheme)
    except ImportError:
        package = _PACKAGES.get(scheme, f"the fsspec package for {scheme}://")
        raise UsageError(f"{scheme}://: needs a package: pip install '{package}'") from None
    except ValueError:
        raise UsageError(f"{scheme}://: no such store is known; use s3://, oss:// or gs://") from None


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
    _asked(url, "deleted", lambda store: store.remove(url))


def facts_of(file: Path) -> Facts:
    """Read a local file once and say what it is; raises OSError."""
    sha256, md5, crc64, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0, 0
    parts = []
    with file.open("rb") as content:
        while part := content.read(_PART):
            sha256.update(part)
            md5.update(part)
            parts.append(hashlib.md5(part, usedforsecurity=False).digest())
            crc64 = fastcrc.crc64.xz(part, crc64)
            size += len(part)
    joined = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    checksums = {f"md5:{md5.hexdigest()}", f"crc64:{crc64}", f"parts:{joined}-{len(parts)}"}
    return Facts(size, sha256.hexdigest(), crc64, md5.digest(), frozenset(checksums))


async def off_loop(call: Callable[..., _T], *args: Any) -> _T:
    """Do one of these blocking things in a thread."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(call, *args))


def shown(url: str) -> str:
    """Name an object in a message: on one line, without credentials."""
    return scrub(without_signature(url))


def _asked(url: str, done: str, ask: Callable[[Store], _T]) -> _T:
    """Ask the store of a URL; whatever it raises becomes one line, but for what callers tell apart."""
    store = _store(url.partition(":")[0])
    try:
        return ask(store)
    except (FileNotFoundError, NotImplementedError):
        raise
    except Exception as error:  # noqa: BLE001 - every store has its own errors, and their texts may quote a signature
        raise StorageError(
            f"{shown(url)}: can't be {done} ({type(error).__name__}); see that the bucket is there and that your "
            "credentials may do it"
        ) from None
