"""A dataset in a folder: files are renamed into place and last, and a lock keeps compactions apart."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import fs

from wanbatch.errors import LedgerError
from wanbatch.files import hidden_beside
from wanbatch.ledger.files import first_line, is_finished, write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from wanbatch.ledger.folders import Superseded


class Disk:
    """A folder on this machine, or on a file system that is mounted here."""

    files = fs.LocalFileSystem()
    readers = pa.cpu_count()

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._folder = folder

    def prepare(self) -> None:
        """Make the folder, and see that it can be written."""
        with clear_errors(self.where):
            self._folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self._folder):
                pass

    def names(self, under: str = "") -> list[str]:
        """Name the finished files."""
        if not self._folder.is_dir():
            return []
        with clear_errors(self.where), _locked(self._folder, shared=True):
            return self._names(under)

    def path(self, name: str) -> str:
        """Give the path of a file."""
        return str(self._folder / name)

    def place(self, name: str = "") -> str:
        """Give the path of a file."""
        return str(self._folder / name)

    def publish(
        self, name: str, table: pa.Table, *, superseded: Superseded, instead_of: Sequence[str] = ()
    ) -> None:
        """Write beside the place and make it durable; with the folder locked, rename, then remove the others."""
        path = self._folder / name
        with clear_errors(str(path)), _whole(table, path) as temporary, _locked(self._folder):
            if not superseded(self._names(name.rpartition("/")[0])):
                _rename(temporary, path)
                self._unlink(instead_of)

    def remove(self, names: Sequence[str]) -> None:
        """Remove files for good, with the folder locked."""
        with clear_errors(self.where), _locked(self._folder):
            self._unlink(names)

    @contextmanager
    def reading(self, name: str = "") -> Iterator[None]:
        """Turn what a disk or a damaged file does into `LedgerError`."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError):
            with clear_errors(self.place(name)):
                raise

    def _names(self, under: str) -> list[str]:
        found = (self._folder / under).glob("**/*.parquet")
        return sorted(filter(is_finished, (path.relative_to(self._folder).as_posix() for path in found)))

    def _unlink(self, names: Sequence[str]) -> None:
        paths = [self._folder / name for name in names]
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths}:
            _sync_folder(folder)


@contextmanager
def clear_errors(where: str) -> Iterator[None]:
    """Turn what a disk or a damaged file does into one clear line."""
    try:
        yield
    except pa.ArrowException as error:
        raise LedgerError(
            f"{where}: not readable as Parquet ({first_line(error)}); move that file away"
        ) from None
    except OSError as error:
        raise LedgerError(
            f"{where}: {error.strerror or first_line(error)}; make room or mend its permissions, "
            "then run again: the journal has it all"
        ) from None


@contextmanager
def _whole(table: pa.Table, path: Path) -> Iterator[Path]:
    """Write a file beside `path` under a hidden name, durably, for the caller to move into place."""
    temporary = hidden_beside(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            write_parquet(table, file)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _rename(temporary: Path, path: Path) -> None:
    """Move a written file into place, for good."""
    temporary.replace(path)
    for folder in (path.parent, path.parent.parent):  # the folder itself may be new
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Make renames and removals last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a dataset against a compaction that swaps its files, or, not `shared`, against all others.

    Where a network file system knows no locks, what files say about each other still tells which count.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
