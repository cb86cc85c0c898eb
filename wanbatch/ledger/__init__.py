"""The Parquet dataset that people read: one row per settled attempt, and totals per run.

    LEDGER/attempts/date=YYYY-MM-DD/<batch>.parquet
    LEDGER/totals/<run>.parquet

A file appears whole or not at all, and a batch always goes into a file of the same name, so that writing it
again after a crash changes nothing. Money and seconds are decimal128(18, 6): sums are exact.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from wanbatch.errors import LedgerError
from wanbatch.ledger.compacting import Compaction, compact_attempts, swallowed
from wanbatch.ledger.files import clear_errors, first_line, locked, publish, whole
from wanbatch.ledger.reading import read
from wanbatch.ledger.schema import ATTEMPTS, PLACES, SCHEMA_VERSION, TOTALS
from wanbatch.ledger.summing import SUMMED, add_up_table
from wanbatch.ledger.verifying import verify_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from wanbatch.journal import Batch

__all__ = ["ATTEMPTS", "SCHEMA_VERSION", "TOTALS", "Compaction", "Ledger", "add_up"]


class Ledger:
    """A ledger folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def attempts(self) -> Path:
        """The dataset of attempts, for any Parquet reader."""
        return self.folder / "attempts"

    @property
    def totals(self) -> Path:
        """The dataset of totals."""
        return self.folder / "totals"

    def prepare(self) -> None:
        """Make the folders, and see that they can be written before anything is paid."""
        with clear_errors(self.folder):
            for folder in (self.attempts, self.totals):
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".{uuid.uuid4().hex}.writable"
                probe.touch()
                probe.unlink()

    def write_batch(self, batch: Batch) -> None:
        """Write settled attempts, one file a day; doing it twice leaves one copy."""
        days = defaultdict(list)
        for row in batch.rows:
            days[_time(row["settled_at"]).date()].append(row)
        for day, rows in sorted(days.items()):
            path = self.attempts / f"date={day:%Y-%m-%d}" / f"{batch.name}.parquet"
            try:
                table = _table(rows, ATTEMPTS)
            except pa.ArrowException as error:
                raise LedgerError(
                    f"{path}: a row does not fit its columns ({first_line(error)}); the journal has it all"
                ) from None
            self._write(table, path)

    def write_totals(self, run_id: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
        """Add up what a run settled, and write it in place of an earlier sum of the same run."""
        table = _table(add_up(run_id, rows), TOTALS)
        self._write(table, self.totals / f"{run_id}.parquet")
        return table

    def read_attempts(
        self,
        columns: Sequence[str] | None = None,
        *,
        categories: Collection[str] = (),
        where: pc.Expression | None = None,
    ) -> pa.Table:
        """Read every attempt of which `where` holds, once; raises `LedgerError` when nothing is there, or damaged.

        `categories` are text columns of few values: they come, and are read and grouped by faster, as dictionaries.
        """
        return read(self.attempts, ATTEMPTS, columns, categories=categories, where=where)

    def read_totals(self) -> pa.Table:
        """Read the totals of every run; raises `LedgerError` when there is nothing, or a file is damaged."""
        return read(self.totals, TOTALS)

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read every attempt into pandas with Arrow's types: decimals stay exact and are summed in Arrow."""
        import pandas as pd  # noqa: PLC0415 - takes longer to import than most ledgers take to read

        return self.read_attempts(columns).to_pandas(types_mapper=pd.ArrowDtype)

    def totals_by(self, *, run_id: str | None = None) -> list[dict[str, Any]]:
        """Add up all attempts, or those of one run, by service, currency, resolution and status."""
        by = ("service", "currency", "resolution", "status")
        where = None if run_id is None else pc.field("run_id") == run_id
        table = self.read_attempts([*by, *SUMMED], categories=by, where=where)
        if not table.num_rows:
            raise LedgerError(f"{self.folder}: no attempts of run {run_id}")
        return add_up_table(table, by)

    def compact(self) -> Compaction:
        """Merge the files of each day into one; harmless at any time, and to be run again if it is interrupted."""
        return compact_attempts(self.attempts)

    def verify(self, *, exists: Callable[[str], bool] | None = None) -> Iterator[str]:
        """Give a line for each thing that is wrong; `exists` says whether an output is there."""
        return verify_ledger(self.attempts, self.totals, exists=exists)

    def _write(self, table: pa.Table, path: Path) -> None:
        """Write a file so that a reader sees all of it or none, unless compaction merged it into another already."""
        with whole(table, path) as temporary, locked(path.parent.parent):
            if not swallowed(path.parent, path.stem):
                publish(temporary, path)


def add_up(run_id: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sum ledger rows exactly, by service, currency, resolution and status."""
    sums: dict[tuple[str, ...], dict[str, Any]] = {}
    names = ("service", "currency", "resolution", "status")
    for row in rows:
        group = tuple(row[name] for name in names)
        total = sums.setdefault(
            group,
            {"run_id": run_id, **dict(zip(names, group, strict=True))}
            | {"attempts": 0, "billed_s": Decimal(0), "cost": Decimal(0), "unknown_cost": 0},
        )
        total["attempts"] += 1
        total["billed_s"] += Decimal(row["billed_s"] or 0)
        total["cost"] += Decimal(row["cost"] or 0)
        total["unknown_cost"] += row["cost"] is None
    return [sums[group] for group in sorted(sums, key=lambda group: tuple(part or "" for part in group))]


def _table(rows: list[Mapping[str, Any]] | list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.table(
        [pa.array([_value(row[field.name], field.type) for row in rows], field.type) for field in schema],
        schema=schema,
    )


def _value(value: Any, kind: pa.DataType) -> Any:
    """Turn a value that went through JSON into what its column holds."""
    if value is None:
        return None
    if pa.types.is_timestamp(kind):
        return _time(value)
    if pa.types.is_decimal(kind):
        return Decimal(value).quantize(PLACES)
    if pa.types.is_map(kind):
        return sorted(value.items())
    return value


def _time(value: str | datetime | date) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
