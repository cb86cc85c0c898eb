"""The stores behind the schemes, their differences kept in here. Everything blocks and raises what the store raises."""

from __future__ import annotations

import base64
import errno
from functools import cache
from typing import TYPE_CHECKING, Any

from wanbatch.buckets.facts import PART, Stat
from wanbatch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_PACKAGES = {"s3": "wanbatch[s3]", "oss": "wanbatch[oss]", "gs": "wanbatch[gs]"}


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
        settings = {"ContentType": content_type, "Metadata": dict(metadata), "chunksize": PART}
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

    def __init__(self, scheme: str) -> None:
        super().__init__(scheme)
        if not self.files._endpoint:  # noqa: SLF001 - see the class
            raise UsageError(
                f"{scheme}://: no endpoint: set OSS_ENDPOINT, such as https://oss-ap-southeast-1.aliyuncs.com, "
                "and FSSPEC_OSS_KEY and FSSPEC_OSS_SECRET"
            )

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

    def __init__(self, scheme: str) -> None:
        # What fsspec finds under the scheme first asks over gRPC what kind of bucket it is, and needs a right for it.
        from gcsfs.core import GCSFileSystem  # type: ignore[import-untyped]  # noqa: PLC0415 - untyped, and as above

        del scheme
        self.files = GCSFileSystem(use_listings_cache=False, skip_instance_cache=True)

    def sign(self, url: str, seconds: int) -> str:
        """Give a URL that opens the object to anybody for so long."""
        signed: str = self.files.sign(url, expiration=seconds, version="v4")
        return signed

    def _put_settings(self, content_type: str, metadata: dict[str, str]) -> dict[str, Any]:
        return {"content_type": content_type, "metadata": metadata, "mode": "create"}

    def _checksums(self, info: Mapping[str, Any]) -> Iterator[str]:
        if md5 := info.get("md5Hash"):
            yield f"md5:{base64.b64decode(md5).hex()}"


_STORES: dict[str, Callable[[str], Store]] = {"s3": S3Store, "oss": OssStore, "gs": GsStore}


@cache
def store_of(scheme: str) -> Store:
    """Open the store behind a scheme, once a process; raises `UsageError`."""
    try:
        return _STORES.get(scheme, Store)(scheme)
    except ImportError:
        package = _PACKAGES.get(scheme, f"the fsspec package for {scheme}://")
        raise UsageError(f"{scheme}://: needs a package: pip install '{package}'") from None
    except ValueError:
        raise UsageError(f"{scheme}://: no such store is known; use s3://, oss:// or gs://") from None
