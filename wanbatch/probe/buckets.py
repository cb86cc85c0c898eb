"""Pieces of an object in a bucket; blocking."""

from __future__ import annotations

from functools import cached_property

from wanbatch import buckets
from wanbatch.errors import ProbeError, StorageError, UsageError
from wanbatch.probe.blocks import shown


class BucketObject:
    """One `s3://`, `oss://` or `gs://` object; credentials are found as the store's own tools find them."""

    def __init__(self, url: str) -> None:
        self.name = shown(url)
        self._url = url

    @cached_property
    def size(self) -> int | None:
        """Bytes in all; raises `ProbeError`."""
        try:
            told = buckets.stat(self._url)
        except (StorageError, UsageError) as error:
            raise ProbeError(str(error)) from None
        if told is None:
            raise ProbeError(f"{self.name}: is not there; mend the URL")
        return told.size

    def read_at(self, start: int, length: int) -> bytes:
        """Give up to `length` bytes from `start` on; raises `ProbeError`."""
        end = start + length if self.size is None else min(start + length, self.size)
        try:
            return buckets.read(self._url, start, end)
        except (StorageError, UsageError) as error:
            raise ProbeError(str(error)) from None
