"""The Parquet dataset that people read: one row per settled attempt, and totals per run.

    LEDGER/attempts/date=YYYY-MM-DD/<batch>.parquet
    LEDGER/totals/<run>.parquet

LEDGER is a folder, or a URL that fsspec knows.
A file appears whole or not at all, and a batch always goes into a file of the same name, so that writing it
again after a crash changes nothing. Money and seconds are decimal128(18, 6): sums are exact.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from wanbatch.errors import LedgerError
from wanbatch.ledger.compacting import Compaction, compact_attempts
from wanbatch.ledger.files import first_line
from wanbatch.ledger.folders import open_folder
from wanbatch.ledger.reading import has_batches, read, read_latest
from wanbatch.ledger.schema import ATTEMPTS, PLACES, SCHEMA_VERSION, TOTALS
from wanbatch.ledger.summing import DAY, TAG, Sums, rows_of, sum_attempts
from wanbatch.ledger.verifying import verify_ledger

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    import pyarrow.compute as pc

    from wanbatch.journal import Batch
    from wanbatch.ledger.folders import Folder

__all__ = ["ATTEMPTS", "DAY", "SCHEMA_VERSION", "TAG", "TOTALS", "Compaction", "Ledger", "Sums", "add_up"]

_GROUP = ("service", "currency", "resolution", "status")


class Ledger:
    """A ledger in a folder, or in a bucket: a path, or a URL that fsspec knows, such as `s3://bucket/prefix`.

    Raises `LedgerError` for a URL that leads nowhere.
    """

    def __init__(self, where: str | os.PathLike[str]) -> None:
        self._attempts, self._totals = open_folder(where, "attempts"), open_folder(where, "totals")
        self.where = self.attempts.removesuffix("/attempts")

    @property
    def attempts(self) -> str:
        """The dataset of attempts, for any Parquet reader: a path or a URL."""
        return self._attempts.where

    @property
    def totals(self) -> str:
        """The dataset of totals, likewise."""
        return self._totals.where

    def prepare(self) -> None:
        """See that it can be written before anything is paid; makes its folders."""
        self._attempts.prepare()
        self._totals.prepare()

    def is_empty(self) -> bool:
        """Whether nothing was ever settled."""
        return not self._attempts.names()

    def write_batch(self, batch: Batch) -> None:
        """Write settled attempts, one file a day; doing it twice leaves one copy."""
        days = defaultdict(list)
        for row in batch.rows:
            days[_time(row["settled_at"]).date()].append(row)
        for day, rows in sorted(days.items()):
            name = f"date={day:%Y-%m-%d}/{batch.name}.parquet"
            try:
                table = _table(rows, ATTEMPTS)
            except pa.ArrowException as error:
                raise LedgerError(
                    f"{self._attempts.place(name)}: a row does not fit its columns ({first_line(error)}); "
                    "the journal has it all"
                ) from None
            self._write(self._attempts, name, table)

    def write_totals(self, run_id: str, sums: Iterable[Mapping[str, Any]]) -> None:
        """Write what a run settled, as `add_up` has it, in place of an earlier sum of the same run."""
        self._write(self._totals, f"{run_id}.parquet", _table(list(sums), TOTALS))

    def read_attempts(
        self, columns: Sequence[str] | None = None, *, where: pc.Expression | None = None
    ) -> pa.Table:
        """Read every attempt of which `where` holds, once; raises `LedgerError` when nothing is there, or damaged."""
        return read(self._attempts, ATTEMPTS, columns, where=where)

    def read_latest(self, columns: Sequence[str], *, where: pc.Expression, rows: int) -> pa.Table:
        """Read the attempts of the last days of which `where` holds, as many days as it takes to have so many rows.

        Raises `LedgerError` when nothing is there, or damaged.
        """
        return read_latest(self._attempts, ATTEMPTS, columns, where=where, rows=rows)

    def read_totals(self) -> pa.Table:
        """Read the totals of every run; raises `LedgerError` when there is nothing, or a file is damaged."""
        return read(self._totals, TOTALS)

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read every attempt into pandas with Arrow's types: decimals stay exact and are summed in Arrow."""
        import pandas as pd  # noqa: PLC0415 - takes longer to import than most ledgers take to read

        return self.read_attempts(columns).to_pandas(types_mapper=pd.ArrowDtype)

    def sums(
        self,
        by: Sequence[str],
        *,
        run_id: str | None = None,
        within: Callable[[date], bool] | None = None,
    ) -> dict[tuple[Any, ...], Sums]:
        """Add up attempts by text columns, `DAY` and `TAG` + name: all, or those of a run and of the days `within`.

        The keys have a value for each of `by`: text, a date for `DAY`, None where an attempt has none.
        Raises `LedgerError` when there is no ledger, or a file is damaged.
        """
        return sum_attempts(self._attempts, by, run_id=run_id, within=within)

    def totals_by(self, *, run_id: str | None = None) -> list[dict[str, Any]]:
        """Add up all attempts, or those of one run, by service, currency, resolution and status."""
        sums = self.sums(_GROUP, run_id=run_id)
        if not sums:
            raise LedgerError(f"{self.where}: no attempts of run {run_id}")
        return rows_of(sums, _GROUP)

    def compact(self, *, more_than: int = 0) -> Compaction:
        """Merge the files of each day that has `more_than` so many into one.

        Harmless at any time, and to be run again if it is interrupted.
        """
        return compact_attempts(self._attempts, more_than=more_than)

    def verify(self, *, exists: Callable[[str], bool] | None = None) -> Iterator[str]:
        """Give a line for each thing that is wrong; `exists` says whether an output is there."""
        return verify_ledger(self._attempts, self._totals, exists=exists)

    def _write(self, folder: Folder, name: str, table: pa.Table) -> None:
        """Write a file so that a reader sees all of it or none, unless compaction merged it into another already."""
        batch = {PurePosixPath(name).stem}
        folder.publish(name, table, superseded=lambda names: has_batches(folder, names, batch, but=name))


def add_up(
    run_id: str, rows: Iterable[Mapping[str, Any]], onto: Iterable[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Sum ledger rows exactly, by service, currency, resolution and status, `onto` earlier sums."""
    sums = {tuple(total[name] for name in _GROUP): dict(total) for total in onto}
    for row in rows:
        group = tuple(row[name] for name in _GROUP)
        total = sums.setdefault(
            group,
            {"run_id": run_id, **dict(zip(_GROUP, group, strict=True))}
            | {"attempts": 0, "billed_s": Decimal(0), "cost": Decimal(0), "unknown_cost": 0},
        )
        total["attempts"] += 1
        total["billed_s"] += Decimal(row["billed_s"] or 0)
        total["cost"] += Decimal(row["cost"] or 0)
        total["unknown_cost"] += row["cost"] is None
    return [sums[group] for group in sorted(sums, key=lambda group: tuple(part or "" for part in group))]


def _table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
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
