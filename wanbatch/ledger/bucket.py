"""A dataset in a bucket: an object appears as a whole, and nothing is ever locked.

Writers and compactions may meet here. What keeps every row counted once is in `wanbatch.ledger.reading`: files say
whose rows they have, and of those that say the same rows one counts. A file is only taken away when one that counts
has its rows.
"""

from __future__ import annotations

import io
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import fs

from wanbatch.errors import LedgerError, StorageError
from wanbatch.identity import without_signature
from wanbatch.ledger.files import first_line, is_finished, steadily, write_parquet
from wanbatch.redact import scrub
from wanbatch.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wanbatch.ledger.folders import Superseded

_AT_ONCE = 16 * 1024 * 1024
"""Bytes up to which an object is read in one piece, so that a run's totals are never half old, half new."""
_LISTINGS = 10


class Bucket:
    """The objects under a URL that fsspec knows."""

    readers = 16

    def __init__(self, url: str) -> None:
        self.where = without_signature(url)
        try:
            self._store, root = open_store(url)
        except StorageError as error:
            raise LedgerError(str(error)) from None
        self._root = root.rstrip("/")
        self.files = fs.PyFileSystem(_Reader(self._store))

    def prepare(self) -> None:
        """See that objects can be written, listed and removed."""
        name = f".{uuid.uuid4().hex}.writable"
        with self._writing(name):
            self._store.pipe_file(self.path(name), b"wanbatch")
            self._store.rm_file(self.path(name))
        self.names()

    def names(self, under: str = "") -> list[str]:
        """Name the finished files.

        A long listing comes in pages and is no snapshot: a file may be taken away before its page comes, and the one
        that has its rows appear after its page came. Two listings that agree saw neither.
        """
        before = self._list(under)
        for _ in range(_LISTINGS):
            found = self._list(under)
            if found == before:
                return found
            before = found
        raise LedgerError(f"{self.where}: its files keep changing; try again")

    def path(self, name: str) -> str:
        """Give the bucket and key of a file."""
        return f"{self._root}/{name}"

    def place(self, name: str = "") -> str:
        """Give the URL of a file."""
        return f"{self.where}/{name}".rstrip("/")

    def publish(
        self, name: str, table: pa.Table, *, superseded: Superseded, instead_of: Sequence[str] = ()
    ) -> None:
        """Write the object, then remove the others; or itself again, when its rows were merged meanwhile."""
        content = io.BytesIO()
        write_parquet(table, content)
        day = name.rpartition("/")[0]

        def too_late() -> bool:
            return steadily(self.where, lambda: superseded(self.names(day)))

        if too_late():
            return
        with self._writing(name):
            self._store.pipe_file(self.path(name), content.getvalue())
        self.remove([name] if too_late() else instead_of)

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects."""
        for name in names:
            with self._writing(name), suppress(FileNotFoundError):
                self._store.rm_file(self.path(name))

    @contextmanager
    def reading(self, name: str = "") -> Iterator[None]:
        """Turn what a store or a damaged file does into `LedgerError`."""
        try:
            yield
        except (FileNotFoundError, LedgerError):
            raise
        except pa.ArrowException as error:
            raise LedgerError(
                f"{self.place(name)}: not readable as Parquet ({scrub(first_line(error))}); move that file away"
            ) from None
        except Exception as error:  # noqa: BLE001 - every store has its own errors
            raise self._trouble(name, "read", error) from None

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - every store has its own errors
            raise self._trouble(name, "written", error) from None

    def _trouble(self, name: str, done: str, error: Exception) -> LedgerError:
        words = scrub(f"{type(error).__name__}: {first_line(error)}")  # it may quote a signed request
        return LedgerError(
            f"{self.place(name)}: can't be {done} ({words}); see that the bucket is there and that your credentials "
            "may do it, then run again: the journal has it all"
        )

    def _list(self, under: str) -> list[str]:
        top = self.path(under).rstrip("/")
        with self.reading(under):
            try:
                paths = self._store.find(top)
            except FileNotFoundError:
                return []
        root = self._root.lstrip("/") + "/"
        names = (path.lstrip("/").removeprefix(root) for path in paths)
        return sorted(filter(is_finished, names))


class _Reader(fs.FSSpecHandler):  # type: ignore[misc] # pyarrow ships no types
    """Arrow's own way to fsspec, without asking first whether a file is there, and without reading far ahead."""

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open an object for reading at any place; raises FileNotFoundError."""
        if self.fs.size(path) <= _AT_ONCE:
            return pa.BufferReader(self.fs.cat_file(path))
        return pa.PythonFile(self.fs.open(path, mode="rb", cache_type="none"), mode="r")
