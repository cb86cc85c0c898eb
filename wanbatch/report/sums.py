"""What the page's charts show, added up from ledger rows; money stays exact."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from math import ceil
from typing import Any

Rows = Sequence[Mapping[str, Any]]

_HOURLY_UP_TO = timedelta(days=2)
_DAILY_UP_TO = timedelta(days=120)
_SLOT_BINS = 96
_HISTOGRAM_BINS = 12
_NICE = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)
_VALUES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Sum:
    """One group of attempts. `cost` leaves out those of unknown cost."""

    name: str
    attempts: int
    cost: Decimal


def currencies(rows: Rows) -> list[str]:
    """Name every currency in which something was or might have been paid."""
    return sorted({row["currency"] for row in rows if row["currency"]})


def cost(rows: Iterable[Mapping[str, Any]], currency: str) -> Decimal:
    """Add up what is known to be paid in a currency."""
    return sum((row["cost"] for row in rows if row["cost"] and row["currency"] == currency), Decimal(0))


def spend_over_time(rows: Rows, currency: str) -> list[Sum]:
    """Add up spending by UTC hour, day or month of settling, whichever suits the span; without gaps."""
    moments = sorted(row["settled_at"].astimezone(UTC) for row in rows)
    if not moments:
        return []
    span = moments[-1] - moments[0]
    form = "%d %b %H:00" if span <= _HOURLY_UP_TO else "%d %b %Y" if span <= _DAILY_UP_TO else "%b %Y"
    step = timedelta(hours=1) if span <= _HOURLY_UP_TO else timedelta(days=1)
    start = moments[0].replace(minute=0, second=0, microsecond=0)
    ticks = (start + step * number for number in range(ceil(span / step) + 2))
    names = dict.fromkeys(f"{tick:{form}}" for tick in ticks)
    groups: dict[str, list[Mapping[str, Any]]] = {name: [] for name in names}
    for row in rows:
        groups[f"{row['settled_at'].astimezone(UTC):{form}}"].append(row)
    last = f"{moments[-1]:{form}}"
    shown = list(groups)[: list(groups).index(last) + 1]
    return [_sum(name, groups[name], currency) for name in shown]


def spend_by_tag(rows: Rows, currency: str) -> dict[str, list[Sum]]:
    """Add up spending by each tag's values, dearest first; the many small ones become "others"."""
    paid = [row for row in rows if row["currency"] == currency]
    names = sorted({name for row in paid for name, _ in row["tags"] or ()})
    return {name: _by_value(paid, name, currency) for name in names}


def outcomes(rows: Rows) -> list[Sum]:
    """Count attempts by how they ended, most frequent first."""
    return [
        Sum(name, count, Decimal(0)) for name, count in Counter(row["status"] for row in rows).most_common()
    ]


def failures(rows: Rows) -> list[tuple[str, str, str, int]]:
    """Count failures by outcome, code and message, most frequent first."""
    failed = (row for row in rows if row["status"] != "succeeded")
    kinds = Counter((row["status"], row["code"] or "", row["message"] or "") for row in failed)
    return [(*kind, count) for kind, count in kinds.most_common()]


def histogram(values: Iterable[float | None]) -> list[Sum]:
    """Count seconds in equal bins of a round width; the last bin takes all that is longer than nearly all."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return []
    usual = known[ceil(0.99 * (len(known) - 1))]
    width = next((width for width in _NICE if usual / width <= _HISTOGRAM_BINS), _NICE[-1])
    last = min(int(usual // width), _HISTOGRAM_BINS)
    counts = Counter(min(int(value // width), last) for value in known)
    more = "+" if known[-1] >= (last + 1) * width else ""
    return [
        Sum(f"{bin_ * width}{more if bin_ == last else ''}", counts[bin_], Decimal(0))
        for bin_ in range(last + 1)
    ]


def slots(rows: Rows) -> list[tuple[datetime, float]]:
    """Give the mean number of edits at work in equal stretches of time, each by its start."""
    spans = [
        (row["scheduled_at"].timestamp(), row["ended_at"].timestamp())
        for row in rows
        if row["scheduled_at"] and row["ended_at"] and row["ended_at"] > row["scheduled_at"]
    ]
    if not spans:
        return []
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    width = (last - first) / _SLOT_BINS
    edges = [first + width * number for number in range(_SLOT_BINS + 1)]
    busy = [0.0] * _SLOT_BINS
    bins = list(enumerate(pairwise(edges)))
    for start, end in spans:
        from_, to = int((start - first) / width), int((end - first) / width)
        for number, (left, right) in bins[from_ : to + 1]:
            busy[number] += max(0.0, min(end, right) - max(start, left))
    return [
        (datetime.fromtimestamp(edge, UTC), seconds / width)
        for edge, seconds in zip(edges[:-1], busy, strict=True)
    ]


def _by_value(rows: Rows, tag: str, currency: str) -> list[Sum]:
    groups = defaultdict(list)
    for row in rows:
        groups[dict(row["tags"] or ()).get(tag, "(none)")].append(row)
    sums = sorted(
        (_sum(value, group, currency) for value, group in groups.items()),
        key=lambda one: (-one.cost, one.name),
    )
    shown, rest = sums[:_VALUES_SHOWN], sums[_VALUES_SHOWN:]
    others = Sum(
        f"{len(rest):,} others",
        sum(one.attempts for one in rest),
        sum((one.cost for one in rest), Decimal(0)),
    )
    return [*shown, others] if rest else shown


def _sum(name: str, rows: Rows, currency: str) -> Sum:
    return Sum(name, len(rows), cost(rows, currency))
