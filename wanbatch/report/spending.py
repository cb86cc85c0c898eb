"""What was spent, grouped as asked: exact sums, currencies never mixed, unknown costs counted apart."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from wanbatch.errors import LedgerError, UsageError
from wanbatch.ledger import DAY, TAG
from wanbatch.models import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wanbatch.ledger import Ledger, Sums
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
GROUPS = (*_SPANS, *_COLUMNS, f"{TAG}NAME")
_MILLISECOND = Decimal("0.001")


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
        if name not in GROUPS[:-1] and not (name.startswith(TAG) and name != TAG):
            raise UsageError(f"--by {name}: give one of {', '.join(GROUPS)}")
    sums = ledger.sums(
        [*map(_column, by), "currency", "status"], run_id=run_id, within=period.holds if period else None
    )
    if not sums:
        raise LedgerError(f"{ledger.where}: no attempts {_asked(period, run_id)}")
    groups = _group(sums, by)
    return Spending(tuple(by), groups, _totals(groups))


def _asked(period: Period, run_id: str | None) -> str:
    return " ".join(filter(None, (run_id and f"of run {run_id}", str(period))))


def _column(name: str) -> str:
    """Say what the ledger groups by."""
    return DAY if name in _SPANS else _COLUMNS.get(name, name)


def _group(sums: Mapping[tuple[Any, ...], Sums], by: Sequence[str]) -> tuple[Spent, ...]:
    groups: dict[Any, list[Spent]] = defaultdict(list)
    for (*values, currency, status), found in sums.items():
        told = {name: _said(name, value) for name, value in zip(by, values, strict=True)}
        spent = _spent(told, currency, found, lost=status != Outcome.SUCCEEDED)
        groups[(*map(_order, (*told.values(), currency)),)].append(spent)
    return tuple(_add(groups[place]) for place in sorted(groups))


def _said(name: str, value: Any) -> str | None:
    return f"{value:{_SPANS[name]}}" if name in _SPANS else value


def _order(value: str | None) -> tuple[bool, str]:
    return value is not None, value or ""


def _spent(group: Mapping[str, str | None], currency: str | None, sums: Sums, *, lost: bool) -> Spent:
    return Spent(
        group=group,
        currency=currency,
        attempts=sums.attempts,
        billed_s=sums.billed_s if sums.billed_known else None,
        cost=sums.cost if sums.cost_known else None,
        unknown_cost=sums.unknown_cost,
        retries=sums.retries,
        lost_s=Decimal(sums.slot_s if lost else 0).quantize(_MILLISECOND),
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
