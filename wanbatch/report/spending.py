"""What was spent, grouped as asked: exact sums in Arrow, currencies never mixed, unknown costs counted apart."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from wanbatch.errors import LedgerError, UsageError
from wanbatch.journal import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wanbatch.ledger import Ledger
    from wanbatch.report.period import Period

USUAL = ("service", "resolution", "status")
"""How `wanbatch report` groups when it is not told."""
_COLUMNS = {
    "service": "service",
    "resolution": "resolution",
    "status": "status",
    "code": "code",
    "run": "run_id",
}
_SPANS = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}
_TAG = "tag:"
GROUPS = (*_SPANS, *_COLUMNS, f"{_TAG}NAME")
_SUMS = [
    ([], "count_all"),
    ("billed_s", "sum"),
    ("cost", "sum"),
    ("cost", "count"),
    ("retry", "sum"),
    ("queue_s", "sum"),
    ("run_s", "sum"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """One group of attempts in one currency."""

    group: Mapping[str, str | None]
    """By each of what was asked for; None where an attempt has none."""
    currency: str | None
    attempts: int
    billed_s: Decimal | None
    cost: Decimal | None
    """What is known of it, as with the seconds; None when nothing is."""
    unknown_cost: int
    """Attempts that `cost` leaves out."""
    retries: int
    """Attempts beyond the first at their item."""
    lost_s: Decimal
    """Seconds, queue and run, that attempts without a result took of the account's slots."""


@dataclass(frozen=True, slots=True)
class Spending:
    """Groups in order, and the sum of each currency."""

    by: tuple[str, ...]
    groups: tuple[Spent, ...]
    totals: tuple[Spent, ...]


def spending(ledger: Ledger, by: Sequence[str], period: Period, *, run_id: str | None = None) -> Spending:
    """Add up the attempts that settled in a period, or those of one run.

    `by` are names of `GROUPS`. Raises `UsageError` for another name, `LedgerError` when there is nothing to add up.
    """
    for name in by:
        if name not in GROUPS[:-1] and not (name.startswith(_TAG) and name != _TAG):
            raise UsageError(f"--by {name}: give one of {', '.join(GROUPS)}")
    table = _read(ledger, by, period, run_id)
    if not table.num_rows:
        raise LedgerError(f"{ledger.folder}: no attempts {_asked(period, run_id)}")
    groups = _group(table, by)
    return Spending(tuple(by), groups, _totals(groups))


def _asked(period: Period, run_id: str | None) -> str:
    return " ".join(filter(None, (run_id and f"of run {run_id}", str(period))))


def _read(ledger: Ledger, by: Sequence[str], period: Period, run_id: str | None) -> pa.Table:
    needed = {"currency", "status", "attempt", "billed_s", "cost", "queue_s", "run_s"}
    needed |= {_COLUMNS[name] for name in by if name in _COLUMNS}
    needed |= {"settled_at"} if any(name in _SPANS for name in by) else set()
    needed |= {"tags"} if any(name.startswith(_TAG) for name in by) else set()
    where = period.filter
    if run_id is not None:
        run = pc.field("run_id") == run_id
        where = run if where is None else where & run
    categories = needed & {"currency", "status", *_COLUMNS.values()}
    return ledger.read_attempts(sorted(needed), categories=categories, where=where)


def _group(table: pa.Table, by: Sequence[str]) -> tuple[Spent, ...]:
    columns: dict[str, Any] = {f"by {name}": _column(table, name) for name in by}
    columns |= {name: table[name] for name in ("currency", "status", "billed_s", "cost", "queue_s", "run_s")}
    columns |= {"retry": pc.greater(table["attempt"], 1)}
    names = [*(f"by {name}" for name in by), "currency", "status"]
    # Arrow sums decimal128(18, 6) in 38 digits: no ledger overflows them.
    sums = pa.table(columns).unify_dictionaries().group_by(names).aggregate(_SUMS).to_pylist()
    groups: dict[Any, list[Spent]] = defaultdict(list)
    for row in sums:
        spent = _spent(row, by)
        groups[(*map(_order, (*spent.group.values(), spent.currency)),)].append(spent)
    return tuple(_add(groups[place]) for place in sorted(groups))


def _order(value: str | None) -> tuple[bool, str]:
    return value is not None, value or ""


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name in _COLUMNS:
        return table[_COLUMNS[name]]
    if name in _SPANS:
        days = table["settled_at"].cast(pa.date32())
        return days if name == "day" else pc.floor_temporal(days, unit=name)
    return pc.map_lookup(table["tags"], name.removeprefix(_TAG), "first")


def _spent(row: Mapping[str, Any], by: Sequence[str]) -> Spent:
    """Read the sums of one status of a group."""
    told = {name: row[f"by {name}"] for name in by}
    lost = 0.0 if row["status"] == Outcome.SUCCEEDED else (row["queue_s_sum"] or 0) + (row["run_s_sum"] or 0)
    return Spent(
        group={name: f"{value:{_SPANS[name]}}" if name in _SPANS else value for name, value in told.items()},
        currency=row["currency"],
        attempts=row["count_all"],
        billed_s=row["billed_s_sum"],
        cost=row["cost_sum"],
        unknown_cost=row["count_all"] - row["cost_count"],
        retries=row["retry_sum"],
        lost_s=Decimal(lost).quantize(Decimal("0.001")),
    )


def _totals(groups: Iterable[Spent]) -> tuple[Spent, ...]:
    currencies: dict[str | None, list[Spent]] = defaultdict(list)
    for spent in groups:
        currencies[spent.currency].append(spent)
    return tuple(replace(_add(currencies[currency]), group={}) for currency in sorted(currencies, key=_order))


def _add(parts: Sequence[Spent]) -> Spent:
    """Add up groups of one currency, under the name of the first."""
    return Spent(
        group=parts[0].group,
        currency=parts[0].currency,
        attempts=sum(part.attempts for part in parts),
        billed_s=_known(part.billed_s for part in parts),
        cost=_known(part.cost for part in parts),
        unknown_cost=sum(part.unknown_cost for part in parts),
        retries=sum(part.retries for part in parts),
        lost_s=sum((part.lost_s for part in parts), Decimal(0)),
    )


def _known(values: Iterable[Decimal | None]) -> Decimal | None:
    known = [value for value in values if value is not None]
    return sum(known, Decimal(0)) if known else None
