"""The ledger held against a bill: every difference, and what explains it.

Charges with a task are compared task by task. What a bill sums up by day is compared with the sums of that
UTC day, model and currency over the attempts that no charge names.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from wanbatch.report.formats import Sheet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

    from wanbatch.ledger import Ledger
    from wanbatch.report.bill import Charge
    from wanbatch.report.formats import Cell
    from wanbatch.report.period import Period

_COLUMNS = (
    "task_id",
    "model",
    "currency",
    "billed_s",
    "unit_price",
    "cost",
    "ended_at",
    "settled_at",
)
_NONE = Decimal(0)


class Why(StrEnum):
    """What explains a difference."""

    ONLY_ON_BILL = "only on the bill"
    ONLY_IN_LEDGER = "only in the ledger"
    UNKNOWN_COST = "unknown cost now known"
    CURRENCY = "other currency"
    SECONDS = "other seconds"
    PRICE = "other price"
    COST = "other cost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one side says of a task, or of a day; None is what it does not know or say."""

    day: date
    model: str
    task_id: str | None
    currency: str | None
    billed_s: Decimal | None
    unit_price: Decimal | None
    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, with what each side says."""

    why: tuple[Why, ...]
    ledger: Entry | None
    bill: Entry | None

    @property
    def entry(self) -> Entry:
        """Give the ledger's side, or the bill's where the ledger has none."""
        found = self.ledger or self.bill
        assert found
        return found


@dataclass(frozen=True, slots=True)
class Sums:
    """What one currency adds up to on either side; `unknown` counts attempts that `ledger` leaves out."""

    currency: str
    ledger: Decimal
    bill: Decimal
    unknown: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences by day, model and task, and the sums by currency."""

    differences: tuple[Difference, ...]
    sums: tuple[Sums, ...]


def compare(
    ledger: Ledger, charges: Iterable[Charge], period: Period, *, run_id: str | None = None
) -> Comparison:
    """Hold the attempts of a period, or of one run, against a bill; raises `LedgerError`.

    A charge in the period is looked for in the whole ledger, so that an edit that ended just before midnight
    on one side and just after on the other is no difference.
    """
    charged = [charge for charge in charges if period.holds(charge.day)]
    by_task, by_day = _bill(charged)
    booked = [
        entry for entry in _booked(ledger, run_id) if entry.task_id in by_task or period.holds(entry.day)
    ]
    pairs: list[tuple[Entry | None, Entry | None]] = []
    rest: dict[Any, list[Entry]] = defaultdict(list)
    for entry in booked:
        found = by_task.pop(entry.task_id, None)
        if found or _place(entry) not in by_day:
            pairs.append((entry, found))
        else:
            rest[_place(entry)].append(entry)
    pairs += [(None, charge) for charge in by_task.values()]
    pairs += [(_sum(rest[place]) if place in rest else None, charge) for place, charge in by_day.items()]
    differences = [Difference(why, *pair) for pair in pairs if (why := _explain(*pair))]
    return Comparison(tuple(sorted(differences, key=_order)), _sums(booked, charged))


def difference_sheet(comparison: Comparison) -> Sheet:
    """Lay out the differences, a row each; what a side does not have or say is empty."""
    said = ("currency", "billed_s", "unit_price", "cost")
    names = ("day", "model", "task_id", "why")
    sides = [f"{side}_{name}" for side in ("ledger", "bill") for name in said]
    rows: list[tuple[Cell, ...]] = []
    for one in comparison.differences:
        values = [_told(side, name) for side in (one.ledger, one.bill) for name in said]
        entry = one.entry
        rows.append((str(entry.day), entry.model, entry.task_id, ", ".join(one.why), *values))
    return Sheet((*names, *sides), tuple(rows))


def _told(side: Entry | None, name: str) -> Cell:
    if side is not None and side.cost is None and name == "cost":
        return "unknown"
    value: Cell = getattr(side, name, None)
    return value


def _bill(charges: Iterable[Charge]) -> tuple[dict[str | None, Entry], dict[Any, Entry]]:
    """Add up the charges of each task, and those of each day that name none."""
    tasks: dict[str | None, list[Entry]] = defaultdict(list)
    days: dict[Any, list[Entry]] = defaultdict(list)
    for charge in charges:
        entry = Entry(**{name: getattr(charge, name) for name in Entry.__dataclass_fields__})
        if charge.task_id:
            tasks[charge.task_id].append(entry)
        else:
            days[_place(entry)].append(entry)
    summed = {task: _sum(entries) for task, entries in tasks.items()}
    return summed, {place: _sum(entries) for place, entries in days.items()}


def _booked(ledger: Ledger, run_id: str | None) -> list[Entry]:
    """Read what the ledger says was, or may have been, billed."""
    where = pc.field("task_id").is_valid() | pc.field("cost").is_null() | (pc.field("cost") != _NONE)
    if run_id is not None:
        where &= pc.field("run_id") == run_id
    return [_entry(row) for row in ledger.read_attempts(_COLUMNS, where=where).to_pylist()]


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        day=(row["ended_at"] or row["settled_at"]).date(),
        model=row["model"],
        **{name: row[name] for name in ("task_id", "currency", "billed_s", "unit_price", "cost")},
    )


def _place(entry: Entry) -> tuple[date, str, str | None]:
    return entry.day, entry.model, entry.currency


def _sum(entries: list[Entry]) -> Entry:
    """Make one of many; what one of them does not know is not known."""
    prices = {entry.unit_price for entry in entries}
    first = entries[0]
    return Entry(
        day=first.day,
        model=first.model,
        task_id=first.task_id if len({entry.task_id for entry in entries}) == 1 else None,
        currency=first.currency,
        billed_s=_added(entry.billed_s for entry in entries),
        unit_price=prices.pop() if len(prices) == 1 else None,
        cost=_added(entry.cost for entry in entries),
    )


def _added(values: Iterable[Decimal | None]) -> Decimal | None:
    known = list(values)
    return None if None in known else sum((value for value in known if value is not None), _NONE)


def _explain(ledger: Entry | None, bill: Entry | None) -> tuple[Why, ...]:
    """Say why two sides differ; nothing when they agree to the last decimal."""
    if ledger is None:
        return (Why.ONLY_ON_BILL,) if bill and (bill.cost or bill.billed_s) else ()
    if ledger.cost is None:
        return (Why.UNKNOWN_COST,)
    if bill is None:
        return (Why.ONLY_IN_LEDGER,) if ledger.cost else ()
    if ledger.currency != bill.currency:
        return (Why.CURRENCY,)
    said = (
        (Why.SECONDS, ledger.billed_s, bill.billed_s),
        (Why.PRICE, ledger.unit_price, bill.unit_price),
    )
    why = tuple(name for name, ours, theirs in said if None not in {ours, theirs} and ours != theirs)
    return why or ((Why.COST,) if ledger.cost != bill.cost else ())


def _order(difference: Difference) -> tuple[date, str, str]:
    entry = difference.entry
    return entry.day, entry.model, entry.task_id or ""


def _sums(booked: Iterable[Entry], charges: Iterable[Charge]) -> tuple[Sums, ...]:
    ours: dict[str, list[Decimal | None]] = defaultdict(list)
    theirs: dict[str, Decimal] = defaultdict(Decimal)
    for entry in booked:
        ours[entry.currency or "unknown"].append(entry.cost)
    for charge in charges:
        theirs[charge.currency] += charge.cost
    return tuple(
        Sums(
            currency=currency,
            ledger=sum((cost for cost in ours[currency] if cost is not None), _NONE),
            bill=theirs[currency],
            unknown=ours[currency].count(None),
        )
        for currency in sorted({*ours, *theirs})
    )
