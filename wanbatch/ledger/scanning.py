"""Reading a few columns of every row group, several at once, without more than that of Arrow.

Text comes as dictionaries, tags too: what Parquet keeps once is not made into a million strings. pyarrow.dataset,
which could do the same, takes ten times as long to import as a year's ledger takes to read.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from wanbatch.ledger.files import steadily
from wanbatch.ledger.reading import some_files
from wanbatch.ledger.schema import ATTEMPTS, SCHEMA_VERSION, upgrade

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wanbatch.ledger.folders import Folder
    from wanbatch.ledger.reading import LedgerFile

_T = TypeVar("_T")
_EPOCH = date(1970, 1, 1)
_MICROS_A_DAY = 86_400_000_000
_TEXT = [field.name for field in ATTEMPTS if field.type == pa.string()]
_DICTIONARIES = [*_TEXT, "tags.key_value.key", "tags.key_value.value"]


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file of attempts, of which nothing but its statistics was read."""

    folder: Folder
    file: LedgerFile
    number: int

    @cached_property
    def day(self) -> date | None:
        """The UTC day on which all its attempts settled; None when only the rows can tell."""
        group = self.file.footer.row_group(self.number)
        for column in map(group.column, range(group.num_columns)):
            told = column.statistics if column.path_in_schema == "settled_at" else None
            if told is not None and told.has_min_max and not told.null_count and _counts_micros(told):
                first, last = (raw // _MICROS_A_DAY for raw in (told.min_raw, told.max_raw))
                return _EPOCH + timedelta(first) if first == last else None
        return None

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Read columns, text as dictionaries; raises `LedgerError`, and FileNotFoundError when the file went away."""
        schema = pa.schema([ATTEMPTS.field(name) for name in columns])
        with self.folder.reading(self.file.name):
            with pq.ParquetFile(
                self.folder.path(self.file.name),
                metadata=self.file.footer,
                read_dictionary=_DICTIONARIES,
                filesystem=self.folder.files,
            ) as opened:
                table = opened.read_row_group(self.number, columns=list(columns), use_threads=False)
            if self.file.version != SCHEMA_VERSION:
                table = upgrade(table, schema)
            return pa.table([_as_asked(table, field) for field in schema], names=schema.names)


def scan(folder: Folder, fold: Callable[[RowGroup], _T]) -> list[_T]:
    """Do something with each row group of the attempts that count; raises `LedgerError`."""

    def look() -> list[_T]:
        groups = [
            RowGroup(folder, file, number)
            for file in some_files(folder, ATTEMPTS)
            for number in range(file.footer.num_row_groups)
        ]
        with ThreadPoolExecutor(folder.readers) as pool:
            return list(pool.map(fold, groups))

    return steadily(folder.where, look)


def _counts_micros(told: pq.Statistics) -> bool:
    """Whether a column's statistics are microseconds; to read them as times would import pandas."""
    unit: str | None = json.loads(told.logical_type.to_json()).get("timeUnit")
    return unit == "microseconds"


def _as_asked(table: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    """Give a column in its type, or as a dictionary of that."""
    if field.name not in table.column_names:
        return _encoded(pa.nulls(table.num_rows, field.type))
    column = table[field.name]
    if field.type == pa.string():
        return _encoded(column)
    if pa.types.is_map(field.type) and pa.types.is_map(column.type):
        return column
    return column if column.type == field.type else column.cast(field.type)


def _encoded(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.dictionary_encode()
    return column
