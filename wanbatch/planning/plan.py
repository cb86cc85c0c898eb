"""What a run would do, added up."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING

from wanbatch.errors import Problem
from wanbatch.identity import without_signature
from wanbatch.planning.costs import Estimate, Sums
from wanbatch.planning.times import RunTimes, makespan_s

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from wanbatch.errors import ProbeError
    from wanbatch.manifest import Rows
    from wanbatch.models import Item
    from wanbatch.options import RunOptions
    from wanbatch.pricing import RateCard
    from wanbatch.settings import Service

_DEAREST = 10
_TAG_VALUES = 1_000
"""Values of one tag that are added up each; a tag that names every row would fill the memory."""
_PROBLEMS_KEPT = 1_000
_NOTHING = Decimal(0)
OTHER_VALUES = "(other values)"


class Standing(StrEnum):
    """What a run would do about a row."""

    NEW = "new"
    AGAIN = "again"
    """It ended without success, and is tried again."""
    OPEN = "open"
    PARKED = "parked"
    """It waits for a person's word, and is left as it is."""
    DONE = "done"
    FAILED = "failed"
    """It ended without success, and is left as it is."""
    DUPLICATE = "duplicate"
    ELSEWHERE = "elsewhere"
    """It is another service's, or open at one."""
    REFUSED = "refused"
    """One of its inputs would not do."""


@dataclass(frozen=True, slots=True, order=True)
class Dear:
    """One of the dearest rows; in the order of what is expected of them."""

    expected: Decimal
    seconds: Decimal
    place: int
    """The row, negative: of equal rows the first counts as dearer."""
    name: str
    video: str
    worst: Decimal | None = field(compare=False)

    @property
    def row(self) -> int:
        """The data row, counted from 1."""
        return -self.place

    @property
    def rank(self) -> tuple[Decimal, Decimal, int]:
        """What it is compared by: no two rows have the same place."""
        return (self.expected, self.seconds, self.place)


def _rank(one: Estimate) -> tuple[Decimal, Decimal]:
    return (one.price.expected if one.price else _NOTHING, one.seconds)


@dataclass(slots=True, kw_only=True)
class Plan:
    """What a run would do. Money in `rates.currency`, except `reserved`, times in UTC."""

    options: RunOptions
    service: Service
    rates: RateCard
    made_at: datetime
    run_times: RunTimes
    rows: int = 0
    digest: str = ""
    """Of the keys of all rows, in order: another one is another manifest."""
    counts: Counter[Standing] = field(default_factory=Counter)
    new: Sums = field(default_factory=Sums)
    """Of what would be submitted."""
    cut: int = 0
    """Edits whose `duration` may cut their input."""
    unknown_length: int = 0
    """Edits whose input was not looked at, or can't be."""
    tags: dict[str, dict[str, Sums]] = field(default_factory=dict)
    dearest: list[Dear] = field(default_factory=list)
    open_edits: int = 0
    """Attempts at this service, from any manifest, that a run would take up."""
    reserved: dict[str, Decimal] = field(default_factory=dict)
    """By currency, for those and for parked ones."""
    problems: list[Problem] = field(default_factory=list)

    @property
    def worst(self) -> Decimal | None:
        """The most that a run could spend and reserve, with what is open; None when a price is unknown."""
        if self.rates.currency is None or self.new.unknown:
            return None
        return self.new.worst + self.reserved.get(self.rates.currency, Decimal(0))

    def seconds_left(self, run_s: float) -> float:
        """Say how long it would take if the service worked so long on each edit, in seconds."""
        return makespan_s(self.new.edits + self.open_edits, run_s, self.service.limits)

    # ---------------------------------------------------------------------------------- filling it in

    def add(self, rows: Rows, estimates: Sequence[Estimate]) -> None:
        """Add up rows that would be submitted."""
        for one, times in Counter(estimates).items():
            self.new.add(one, times)
            self.cut += one.cut * times
            self.unknown_length += (not one.length_known) * times
            if self._is_dear(one, rows.checked.rows[estimates.index(one)]):
                places = (place for place, each in enumerate(estimates) if each is one)
                self._keep_dear(rows.at(list(islice(places, _DEAREST))), one)
        for tag, values in rows.tags().items():
            for (value, one), times in Counter(zip(values, estimates, strict=True)).items():
                if value:
                    self._tagged(tag, value).add(one, times)

    def _tagged(self, tag: str, value: str) -> Sums:
        sums = self.tags.setdefault(tag, {})
        shown = value if value in sums or len(sums) < _TAG_VALUES else OTHER_VALUES
        return sums.setdefault(shown, Sums())

    def _is_dear(self, one: Estimate, row: int) -> bool:
        return len(self.dearest) < _DEAREST or (*_rank(one), -row) > self.dearest[0].rank

    def _keep_dear(self, rows: Rows, one: Estimate) -> None:
        worst = one.price.worst if one.price else None
        for item in rows.items():
            video = without_signature(item.request.video)
            heapq.heappush(self.dearest, Dear(*_rank(one), -item.row, item.name, video, worst))
            if len(self.dearest) > _DEAREST:
                heapq.heappop(self.dearest)

    def refuse(self, item: Item, error: ProbeError) -> None:
        """Say of a row that one of its inputs would not do."""
        if len(self.problems) < _PROBLEMS_KEPT:
            mend = "mend the input, or look again when its server is well"
            self.problems.append(Problem(item.row, "", item.name, str(error), mend))
