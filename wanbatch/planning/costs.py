"""What edits may cost: low, expected and worst, exact, and unknown where a price is."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from wanbatch.pricing import expected_seconds, low_seconds
from wanbatch.steps import reserve

if TYPE_CHECKING:
    from wanbatch.pricing import Rate


@dataclass(frozen=True, slots=True)
class Price:
    """What one edit may cost, in the currency of its rate card."""

    low: Decimal
    expected: Decimal
    worst: Decimal
    """What a run reserves for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """What one edit may be billed. Equal only to itself, which makes many of one kind quick to count."""

    seconds: Decimal
    """The billable seconds that are expected."""
    price: Price | None
    """None when the price is not known."""
    length_known: bool
    cut: bool
    """Whether its `duration` may cut the input: then it is not known what of it is billed."""


def estimate(rate: Rate | None, input_s: Decimal | None, duration: int) -> Estimate:
    """Estimate one edit: `input_s` is None for an input that was not looked at, `duration` 0 for uncut."""
    seconds = expected_seconds(input_s, duration)
    price = _price(rate, input_s, duration) if rate else None
    cut = duration > 0 and (input_s is None or duration < input_s)
    return Estimate(seconds, price, length_known=input_s is not None, cut=cut)


def _price(rate: Rate, input_s: Decimal | None, duration: int) -> Price:
    return Price(
        low=rate.cost(low_seconds(input_s, duration)),
        expected=rate.cost(expected_seconds(input_s, duration)),
        worst=reserve(rate, input_s, duration),
    )


@dataclass(slots=True)
class Sums:
    """Estimates added up; the money leaves out the `unknown`, which are counted instead."""

    edits: int = 0
    unknown: int = 0
    seconds: Decimal = Decimal(0)
    low: Decimal = Decimal(0)
    expected: Decimal = Decimal(0)
    worst: Decimal = Decimal(0)

    def add(self, one: Estimate, times: int = 1) -> None:
        """Add so many edits of a kind."""
        self.edits += times
        self.seconds += one.seconds * times
        if one.price is None:
            self.unknown += times
            return
        self.low += one.price.low * times
        self.expected += one.price.expected * times
        self.worst += one.price.worst * times

    @property
    def known(self) -> bool:
        """Whether the money says anything: no edits cost nothing, edits without a price an unknown amount."""
        return not self.edits or self.unknown < self.edits
