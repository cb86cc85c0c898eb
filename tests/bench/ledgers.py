"""M12: totals and a sum by day over a big compacted ledger. Each reader in a fresh process."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.figures import Figure, middle
from tests.bench.machine import BenchError, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Question = Callable[[Path], Decimal | int]

    from tests.bench.setting import Setting

_OURS = "ours"
_DAYS = 30
_FILES_A_DAY = 4
_FIRST = datetime(2026, 6, 1, tzinfo=UTC)
_BY = ("service", "currency", "resolution", "status")


def measure(setting: Setting, folder: Path, _: dict[str, str]) -> Iterator[Figure]:
    """Make the ledger, and let everybody add it up."""
    _make(folder, setting.rows)
    found: dict[str, list[dict[str, Any]]] = {
        name: [run("ledgers", name, str(folder)).told for _ in range(setting.runs)] for name in _READERS
    }
    answers = {(one["cost"], one["days"]) for runs in found.values() for one in runs}
    if len(answers) != 1:
        raise BenchError(f"the readers do not agree: {sorted(answers)}")
    times = {
        name: middle([{part: one[part] for part in ("totals", "by_day", "import")} for one in runs])
        for name, runs in found.items()
    }
    for what, name, extra, goal in (
        ("totals, imports left out", "totals", 0, 100),
        ("totals, imports included", "totals", 1, None),
        ("sum by day, imports left out", "by_day", 0, None),
    ):
        taken = {reader: one[name] + extra * one["import"] for reader, one in times.items()}
        ours = taken.pop(_OURS)
        note = f"{setting.rows:,} rows, compacted; a fresh process"
        runs = [one[name] + extra * one["import"] for one in found[_OURS]]
        yield Figure(
            measure="M12", what=what, unit="ms", ours=ours, goal=goal, peers=taken, runs=runs, note=note
        )


def _make(folder: Path, rows: int) -> None:
    """Write a ledger of many days, several files a day, and compact it."""
    import numpy as np  # noqa: PLC0415 - the readers are to import only their own

    from wanbatch.ledger import Ledger  # noqa: PLC0415

    ledger, draw = Ledger(folder), np.random.default_rng(0)
    ledger.prepare()
    written = 0
    for day in range(_DAYS):
        for part in range(_FILES_A_DAY):
            count = rows * (day * _FILES_A_DAY + part + 1) // (_DAYS * _FILES_A_DAY) - written
            moment = _FIRST + timedelta(days=day)
            path = folder / "attempts" / f"date={moment:%Y-%m-%d}" / f"batch-{part}.parquet"
            path.parent.mkdir(exist_ok=True)
            _write_part(path, moment, written, count, draw)
            written += count
    ledger.compact()


def _write_part(path: Path, moment: datetime, first: int, count: int, draw: Any) -> None:
    """Write rows that differ as real ones do: in key, times, seconds, price and outcome."""
    import pyarrow as pa  # noqa: PLC0415 - the readers are to import only their own
    import pyarrow.parquet as pq  # noqa: PLC0415

    from wanbatch.journal import Batch  # noqa: PLC0415
    from wanbatch.ledger import ATTEMPTS, Ledger  # noqa: PLC0415

    kinds = [_kind(moment, number) for number in range(1600)]
    sample = Ledger(path.parent / ".sample")
    sample.prepare()
    sample.write_batch(Batch(name="kinds", run_id="run-1", rows=tuple(kinds)))
    table = sample.read_attempts().take(pa.array(draw.integers(0, len(kinds), count)))
    names = [f"{first + number:064x}" for number in range(count)]
    for name in ("key", "id", "task_id", "output", "output_sha256"):
        table = table.set_column(table.column_names.index(name), ATTEMPTS.field(name), [names])
    pq.write_table(table.cast(ATTEMPTS), path)


def _kind(moment: datetime, number: int) -> dict[str, Any]:
    from tests.rows import a_row  # noqa: PLC0415 - brings the journal's database along

    seconds = Decimal(400 + number % 1600) / 100
    unit = Decimal("0.15" if number % 3 == 0 else "0.10")
    failed = number % 20 == 0
    return a_row(
        f"{number:064x}",
        status="failed" if failed else "succeeded",
        resolution="1080P" if number % 3 == 0 else "720P",
        settled_at=(moment + timedelta(seconds=50 * number)).isoformat(),
        billed_s="0" if failed else str(seconds),
        cost="0" if failed else str(seconds * unit),
        unit_price=str(unit),
        tags={"campaign": f"campaign-{number % 40}"},
    )


# Each reader imports what it needs, then gives two questions: the whole cost, found by adding up by service, currency,
# resolution and status; and how many days there are, found by adding up by day.


def _ours() -> tuple[Question, Question]:
    from wanbatch.ledger import Ledger  # noqa: PLC0415 - each reader imports its own
    from wanbatch.report.period import Period  # noqa: PLC0415
    from wanbatch.report.spending import spending  # noqa: PLC0415

    def totals(folder: Path) -> Decimal:
        return sum((row["cost"] for row in Ledger(folder).totals_by()), Decimal(0))

    return totals, lambda folder: len(spending(Ledger(folder), ["day"], Period()).groups)


def _duckdb() -> tuple[Question, Question]:
    import duckdb  # noqa: PLC0415 - each reader imports its own

    def rows(folder: Path, by: str) -> list[Any]:
        files = folder / "attempts" / "*" / "*.parquet"
        query = f"SELECT {by}, count(*), sum(billed_s), sum(cost) FROM read_parquet('{files}') GROUP BY ALL"  # noqa: S608 - ours alone
        return duckdb.sql(query).fetchall()  # type: ignore[union-attr]  # a SELECT gives a relation

    return (
        lambda folder: sum((row[-1] for row in rows(folder, ", ".join(_BY))), Decimal(0)),
        lambda folder: len(rows(folder, "date_trunc('day', settled_at)")),
    )


def _pyarrow() -> tuple[Question, Question]:
    import pyarrow as pa  # noqa: PLC0415 - each reader imports its own
    import pyarrow.dataset  # noqa: PLC0415 - what `read_table` would import when it is called
    import pyarrow.parquet as pq  # noqa: PLC0415

    sums = [([], "count_all"), ("billed_s", "sum"), ("cost", "sum")]

    def totals(folder: Path) -> Decimal:
        table = pq.read_table(folder / "attempts", columns=[*_BY, "billed_s", "cost"])
        found = table.group_by(list(_BY)).aggregate(sums)
        return sum(found["cost_sum"].to_pylist(), Decimal(0))

    def by_day(folder: Path) -> int:
        table = pq.read_table(folder / "attempts", columns=["settled_at", "billed_s", "cost"])
        days = table.set_column(0, "day", table["settled_at"].cast(pa.date32()))
        return int(days.group_by("day").aggregate(sums).num_rows)

    return totals, by_day


def _pandas() -> tuple[Question, Question]:
    import pandas as pd  # noqa: PLC0415 - each reader imports its own
    import pyarrow.dataset  # noqa: PLC0415 - what `read_parquet` would import when it is called
    import pyarrow.parquet  # noqa: PLC0415, F401

    def totals(folder: Path) -> Decimal:
        frame = pd.read_parquet(folder / "attempts", columns=[*_BY, "billed_s", "cost"])
        found = frame.groupby(list(_BY))[["billed_s", "cost"]].sum()
        return sum(found.cost, Decimal(0))

    def by_day(folder: Path) -> int:
        frame = pd.read_parquet(folder / "attempts", columns=["settled_at", "billed_s", "cost"])
        return len(frame.groupby(frame.settled_at.dt.date)[["billed_s", "cost"]].sum())

    return totals, by_day


def _polars() -> tuple[Question, Question]:
    import polars as pl  # noqa: PLC0415 - each reader imports its own

    sums = [pl.len(), pl.col("billed_s").sum(), pl.col("cost").sum()]

    def totals(folder: Path) -> Decimal:
        found = pl.scan_parquet(folder / "attempts/*/*.parquet").group_by(_BY).agg(sums).collect()
        return sum(found["cost"].to_list(), Decimal(0))

    def by_day(folder: Path) -> int:
        found = pl.scan_parquet(folder / "attempts/*/*.parquet").group_by(pl.col("settled_at").dt.date())
        return found.agg(sums).collect().height

    return totals, by_day


_READERS: dict[str, Callable[[], tuple[Question, Question]]] = {
    _OURS: _ours,
    "duckdb": _duckdb,
    "pyarrow": _pyarrow,
    "pandas": _pandas,
    "polars": _polars,
}


def _main(name: str, folder: str) -> None:
    began = time.perf_counter()
    totals, by_day = _READERS[name]()
    imported = time.perf_counter()
    cost = totals(Path(folder))
    added = time.perf_counter()
    days = by_day(Path(folder))
    told = {
        "import": 1000 * (imported - began),
        "totals": 1000 * (added - imported),
        "by_day": 1000 * (time.perf_counter() - added),
        "cost": str(Decimal(cost).normalize()),
        "days": days,
    }
    print(json.dumps(told))  # noqa: T201 - the result


if __name__ == "__main__":
    _main(*sys.argv[1:])
