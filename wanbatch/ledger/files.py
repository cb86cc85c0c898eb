"""What is the same of every file of the ledger, on a disk and in a bucket."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, TypeVar

import pyarrow.parquet as pq

from wanbatch.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

_T = TypeVar("_T")

_ROWS_IN_GROUP = 128 * 1024
"""Enough for a scan to be fast, few enough for statistics to leave out most of a long day."""

_TRIES = 5
"""Compaction may take away a file between its listing and its opening; then the dataset is listed again."""


def write_parquet(table: pa.Table, file: IO[bytes]) -> None:
    """Write a table the way all of the ledger is written."""
    pq.write_table(
        table,
        file,
        compression="zstd",
        row_group_size=_ROWS_IN_GROUP,
        store_decimal_as_integer=True,  # three times as fast to read
        write_page_checksum=True,
    )


def is_finished(name: str) -> bool:
    """Whether any Parquet reader would take a file; hidden ones are being written."""
    return name.endswith(".parquet") and not any(part[0] in "._" for part in name.split("/"))


def first_line(error: BaseException) -> str:
    """Say an error in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def steadily(where: str, look: Callable[[], _T]) -> _T:
    """Look again when a compaction takes away a file that was listed; raises `LedgerError` in the end."""
    for _ in range(_TRIES):
        try:
            return look()
        except FileNotFoundError:
            continue
    raise LedgerError(f"{where}: its files keep changing; try again")
