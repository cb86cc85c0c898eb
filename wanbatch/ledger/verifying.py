"""Whether the books are in order: every file readable, every row once, every sum right."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wanbatch.errors import LedgerError
from wanbatch.ledger.files import steadily
from wanbatch.ledger.reading import list_files, open_file, read
from wanbatch.ledger.scanning import scan
from wanbatch.ledger.schema import ATTEMPTS, PLACES, TOTALS
from wanbatch.ledger.summing import rows_of, sum_attempts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

    from wanbatch.ledger.folders import Folder
    from wanbatch.ledger.scanning import RowGroup

_GROUP = ("run_id", "service", "currency", "resolution", "status")
_NEEDED = ("key", "attempt", "billed_s", "unit_price", "cost", "output")


def verify_ledger(
    attempts: Folder, totals: Folder, *, exists: Callable[[str], bool] | None = None
) -> Iterator[str]:
    """Give a line for each thing that is wrong; none when all is well.

    `exists` says whether an output (as the ledger has it) is there; without it, outputs are not looked for.
    Raises `LedgerError` where there is no ledger.
    """
    damaged = [*_damaged(attempts, ATTEMPTS), *_damaged(totals, TOTALS)]
    if damaged:
        yield from damaged  # sums over the rest would only say the same, less clearly
        return
    yield from _left_behind(attempts)
    table = read(attempts, ATTEMPTS, _NEEDED)
    yield from _duplicates(table)
    yield from _wrong_costs(table)
    yield from _wrong_days(attempts)
    yield from _wrong_totals(attempts, totals)
    if exists is not None:
        yield from _missing_outputs(table, exists)


def _damaged(folder: Folder, schema: pa.Schema) -> Iterator[str]:
    """Read every page of every file, and hold it against its checksum."""
    for name in folder.names():
        try:
            with (
                folder.reading(name),
                pq.ParquetFile(
                    folder.path(name), filesystem=folder.files, page_checksum_verification=True
                ) as file,
            ):
                file.read()
            open_file(folder, schema, name)
        except LedgerError as error:
            yield str(error)
        except FileNotFoundError:
            continue  # compacted meanwhile


def _left_behind(folder: Folder) -> Iterator[str]:
    for file in steadily(folder.where, lambda: list_files(folder, ATTEMPTS)).left_behind:
        yield (
            f"{folder.place(file.name)}: its rows are in a merged file, too, and other readers count them twice; "
            "run `wanbatch ledger compact`"
        )


def _duplicates(table: pa.Table) -> Iterator[str]:
    counted = table.group_by(["key", "attempt"]).aggregate([([], "count_all")])
    for row in counted.filter(pc.field("count_all") > 1).sort_by("key").to_pylist():
        yield f"key {row['key']}, attempt {row['attempt']}: {row['count_all']} rows where there should be one"


def _wrong_costs(table: pa.Table) -> Iterator[str]:
    """Find what is below nothing, or costs something else than its seconds at its price."""
    for row in _suspects(table).to_pylist():
        cost, due = row["cost"], row["billed_s"] * row["unit_price"]
        if cost < 0 or row["billed_s"] < 0 or abs(cost - due) >= PLACES:
            yield (
                f"key {row['key']}, attempt {row['attempt']}: costs {cost}, and "
                f"{row['billed_s']} s at {row['unit_price']} are {due.quantize(PLACES)}"
            )


def _suspects(table: pa.Table) -> pa.Table:
    """Leave out what costs its seconds at its price, or of which a part is unknown."""
    known = table.select(["key", "attempt", "billed_s", "unit_price", "cost"]).drop_null()
    due = pc.multiply(known["billed_s"], known["unit_price"])
    right = pc.and_(pc.equal(due, known["cost"]), pc.greater_equal(known["cost"], Decimal(0)))
    return known.filter(pc.invert(right))


def _wrong_days(folder: Folder) -> Iterator[str]:
    for name, day in sorted({found for group in scan(folder, _days) for found in group}):
        if name.rpartition("/")[0] != f"date={day}":
            yield f"{folder.place(name)}: has rows of {day}, which belong in another folder"


def _days(group: RowGroup) -> list[tuple[str, date]]:
    days = (
        [group.day]
        if group.day
        else group.read(["settled_at"])["settled_at"].cast(pa.date32()).unique().to_pylist()
    )
    return [(group.file.name, day) for day in days]


def _wrong_totals(attempts: Folder, totals: Folder) -> Iterator[str]:
    """Compare the totals of each run with its attempts."""
    added_up = _by_group(rows_of(sum_attempts(attempts, _GROUP, run_id=None, within=None), _GROUP))
    written = _by_group(read(totals, TOTALS).to_pylist() if totals.names() else [])
    for group in sorted(added_up.keys() | written.keys(), key=lambda group: [part or "" for part in group]):
        if added_up.get(group) != written.get(group):
            yield (
                f"run {', '.join(part or 'unknown' for part in group)}: the totals have "
                f"{_told(written.get(group))}, the attempts {_told(added_up.get(group))}; "
                "a run that is going on writes its totals last"
            )


def _by_group(rows: list[dict[str, Any]]) -> dict[tuple[str, ...], tuple[Any, ...]]:
    names = ("attempts", "billed_s", "cost", "unknown_cost")
    return {tuple(row[name] for name in _GROUP): tuple(row[name] for name in names) for row in rows}


def _told(sums: tuple[Any, ...] | None) -> str:
    if sums is None:
        return "nothing"
    attempts, billed_s, cost, unknown = sums
    return f"{attempts} attempts, {billed_s} s, cost {cost}, {unknown} unknown"


def _missing_outputs(table: pa.Table, exists: Callable[[str], bool]) -> Iterator[str]:
    rows = table.filter(pc.field("output").is_valid()).select(["key", "attempt", "output"])
    for row in rows.to_pylist():
        if not exists(row["output"]):
            yield f"key {row['key']}, attempt {row['attempt']}: its video {row['output']} is not there"
