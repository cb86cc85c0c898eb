"""A far-away object as a file: seekable, read in blocks, each block once, and no more than a bound of them."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Protocol

from wanbatch.errors import ProbeError
from wanbatch.identity import without_signature
from wanbatch.redact import scrub

if TYPE_CHECKING:
    from typing_extensions import Buffer

BLOCK = 64 * 1024
"""Bytes: the header of most clips fits in one block at either end."""


def shown(medium: str) -> str:
    """Name a medium in a message: on one line, without its signature."""
    return scrub(without_signature(medium))


class Source(Protocol):
    """Bytes that can be asked for from anywhere; blocking."""

    name: str
    """As it may be shown."""

    @property
    def size(self) -> int | None:
        """Bytes in all, known after the first read unless the far end does not say."""

    def read_at(self, start: int, length: int) -> bytes:
        """Give up to `length` bytes from `start` on, fewer only at the end; raises `ProbeError`."""


class BlockFile(io.RawIOBase):
    """A `Source` as a readable, seekable file."""

    def __init__(self, source: Source, max_bytes: int) -> None:
        self._source = source
        self._blocks: dict[int, bytes] = {}
        self._left = max_bytes
        self._at = 0
        self.failure: ProbeError | None = None
        """Why the last read failed: decoders may swallow an exception and go on."""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Give the position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; reads nothing but, for the end of an object never read before, its first block."""
        if whence == os.SEEK_CUR:
            offset += self._at
        elif whence == os.SEEK_END:
            offset += self._end()
        if offset < 0:
            raise OSError("negative seek position")
        self._at = offset
        return offset

    def readinto(self, buffer: Buffer) -> int:
        """Fill the buffer from one block; raises `ProbeError`."""
        view = memoryview(buffer).cast("B")
        number, offset = divmod(self._at, BLOCK)
        piece = self._block(number)[offset : offset + len(view)]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def _end(self) -> int:
        self._block(0)
        if self._source.size is None:
            raise OSError("nobody knows where the end is")
        return self._source.size

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._blocks[number] = self._fetched(number * BLOCK)
        return self._blocks[number]

    def _fetched(self, start: int) -> bytes:
        if self._source.size is not None and start >= self._source.size:
            return b""
        try:
            self._spend(BLOCK)
            return self._source.read_at(start, BLOCK)
        except ProbeError as error:
            self.failure = error
            raise

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ProbeError(
                f"{self._source.name}: what it is can't be told from the bytes read so far, and more are not read; "
                "write the file anew with its index in front (ffmpeg -movflags +faststart)"
            )
