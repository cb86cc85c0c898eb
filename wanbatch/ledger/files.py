"""Files that are whole or not there, and errors in one line."""

from __future__ import annotations

import fcntl
import os
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from wanbatch.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ROWS_IN_GROUP = 128 * 1024
"""Enough for a scan to be fast, few enough for statistics to leave out most of a long day."""


@contextmanager
def whole(table: pa.Table, path: Path) -> Iterator[Path]:
    """Write a file beside `path` under a hidden name, durably, for the caller to move into place."""
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"  # containers share folders and process ids
    with clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                pq.write_table(
                    table,
                    file,
                    compression="zstd",
                    row_group_size=_ROWS_IN_GROUP,
                    store_decimal_as_integer=True,  # three times as fast to read
                    write_page_checksum=True,
                )
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Move a written file into place, for good."""
    temporary.replace(path)
    for folder in (path.parent, path.parent.parent):  # the folder itself may be new
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make renames and removals last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a day against a compaction that swaps its files, or, not `shared`, against all others.

    Where a network file system knows no locks, what files say about each other still tells which count.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def clear_errors(where: Path) -> Iterator[None]:
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


def first_line(error: BaseException) -> str:
    """Say an error in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
