"""Pieces of an object in a bucket, through fsspec; blocking."""

from __future__ import annotations

from functools import cached_property

from wanbatch.errors import ProbeError
from wanbatch.probe.blocks import shown

_PACKAGES = {"s3": "wanbatch[s3]", "oss": "wanbatch[oss]", "gs": "gcsfs"}
SCHEMES = frozenset(_PACKAGES)


class BucketObject:
    """One `s3://`, `oss://` or `gs://` object; credentials are found as the store's own tools find them."""

    def __init__(self, url: str) -> None:
        self.name = shown(url)
        scheme = url.partition(":")[0]
        try:
            import fsspec  # noqa: PLC0415 - with the store's package behind it, slow, and most inputs need neither

            self._store, self._path = fsspec.core.url_to_fs(url)
        except ImportError:
            raise ProbeError(f"{self.name}: needs a package: pip install '{_PACKAGES[scheme]}'") from None
        except Exception as error:  # noqa: BLE001 - every store has its own errors for a missing credential
            raise self._unreadable(error) from None

    @cached_property
    def size(self) -> int | None:
        """Bytes in all; raises `ProbeError`."""
        try:
            size: int | None = self._store.size(self._path)
        except Exception as error:  # noqa: BLE001 - as above
            raise self._unreadable(error) from None
        return size

    def read_at(self, start: int, length: int) -> bytes:
        """Give up to `length` bytes from `start` on; raises `ProbeError`."""
        end = start + length if self.size is None else min(start + length, self.size)
        try:
            piece: bytes = self._store.cat_file(self._path, start=start, end=end)
        except Exception as error:  # noqa: BLE001 - as above
            raise self._unreadable(error) from None
        return piece

    def _unreadable(self, error: Exception) -> ProbeError:
        # The error's own text may quote a signed request.
        return ProbeError(
            f"{self.name}: can't be read ({type(error).__name__}); see that it is there and that your credentials "
            "may read it"
        )
