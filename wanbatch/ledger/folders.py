"""Where a dataset's files are: a folder of a disk, or the objects of a bucket, behind the same few verbs.

A file has a name relative to its dataset, with slashes: `date=2026-11-22/run-1.parquet`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from wanbatch.ledger.bucket import Bucket
from wanbatch.ledger.disk import Disk
from wanbatch.stores import local_path

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa
    from pyarrow import fs

    Superseded = Callable[[Sequence[str]], bool]


class Folder(Protocol):
    """The files of one dataset. Everything raises `LedgerError` in one line, but for what `reading` says."""

    where: str
    """Its path or URL, for people and for any Parquet reader."""
    files: fs.FileSystem
    """What Arrow reads it through."""
    readers: int
    """How many files are best read at once."""

    def prepare(self) -> None:
        """See that it can be written, and leave nothing behind."""

    def names(self, under: str = "") -> list[str]:
        """Name the finished Parquet files, in order, of the whole or `under` a folder of it."""

    def path(self, name: str) -> str:
        """Say what `files` calls a file."""

    def place(self, name: str = "") -> str:
        """Say what people call a file."""

    def publish(
        self, name: str, table: pa.Table, *, superseded: Superseded, instead_of: Sequence[str] = ()
    ) -> None:
        """Let a file appear as a whole, then take away those it stands for; nothing when it is `superseded`.

        Which it is asked with the names of the files of its day, as they are at that moment.
        """

    def remove(self, names: Sequence[str]) -> None:
        """Take files away; those that are gone already are no error."""

    def reading(self, name: str = "") -> AbstractContextManager[None]:
        """Turn what goes wrong while reading into `LedgerError`; a file that went away stays a FileNotFoundError."""


def open_folder(where: str | os.PathLike[str], name: str) -> Folder:
    """Open the dataset `name` of a ledger; raises `LedgerError` when its URL leads nowhere."""
    folder = local_path(str(where))
    return Disk(folder / name) if folder else Bucket(f"{str(where).rstrip('/')}/{name}")
