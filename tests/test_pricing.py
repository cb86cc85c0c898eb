"""Prices by day and resolution, seconds as an interval, and every mistake a rate card file can hold."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanbatch.errors import UsageError
from wanbatch.models import Resolution
from wanbatch.pricing import Rate, RateCard, expected_seconds, low_seconds, worst_seconds

if TYPE_CHECKING:
    from pathlib import Path

TODAY = date(2026, 11, 22)
SECONDS = st.decimals(0, 1_000_000, places=3)
INPUTS = st.none() | st.decimals("0.1", 12, places=3)
DURATIONS = st.sampled_from([0, *range(2, 11)])
CARD = """
[[card]]
service = "mine"
currency = "EUR"
unit_price = { 720P = "0.08" }
effective_from = 2026-01-01
effective_until = 2026-06-30
source = "my contract"
noted = 2026-01-02
"""


def write(folder: Path, text: str) -> Path:
    """Put a rate card file into a folder."""
    path = folder / "rates.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("service", "resolution", "price", "currency"),
    [
        ("singapore", Resolution.P720, "0.10", "USD"),
        ("singapore", Resolution.P1080, "0.15", "USD"),
        ("beijing", Resolution.P720, "0.6", "CNY"),
        ("beijing", Resolution.P1080, "1.0", "CNY"),
        ("emulator", Resolution.P720, "0.10", "USD"),
        ("emulator", Resolution.P1080, "0.15", "USD"),
    ],
)
def test_list_prices(service: str, resolution: Resolution, price: str, currency: str) -> None:
    """The built-in cards hold the published list prices, in the currency of the region's bill."""
    rate = RateCard.load(service).rate(resolution, TODAY)
    assert rate is not None
    assert (rate.unit_price, rate.currency, rate.service) == (Decimal(price), currency, service)
    assert RateCard.load(service).currency == currency
    assert rate.card == f"{service} {rate.effective_from}"


@pytest.mark.parametrize(("service", "cost"), [("singapore", "1.004"), ("beijing", "6.024")])
def test_published_example(service: str, cost: str) -> None:
    """The reference's example, 10.04 billed seconds at 720P, costs what the list price says."""
    assert RateCard.load(service).cost(Decimal("10.04"), Resolution.P720, TODAY) == Decimal(cost)


def test_unknown_is_not_nothing() -> None:
    """Without a price for the service, the day or the resolution the cost is unknown, never zero."""
    assert RateCard.load(None).cost(Decimal(10), Resolution.P720, TODAY) is None
    assert RateCard.load(None).currency is None
    assert RateCard.load("singapore").cost(Decimal(10), Resolution.P720, date(2025, 1, 1)) is None


@given(st.lists(SECONDS, min_size=1, max_size=20), st.sampled_from(Resolution))
def test_costs_add_up(parts: list[Decimal], resolution: Resolution) -> None:
    """Pricing edits one by one and pricing their sum gives the same money to the last digit."""
    card = RateCard.load("singapore")
    costs = [card.cost(part, resolution, TODAY) for part in parts]
    assert sum(cost for cost in costs if cost is not None) == card.cost(
        sum(parts, Decimal(0)), resolution, TODAY
    )


@given(st.decimals(0, 10**30, allow_nan=False, allow_infinity=False))
def test_cost_is_rounded_once(seconds: Decimal) -> None:
    """Cost has six places and lies within half of the last one of the exact product."""
    cost = RateCard.load("singapore").cost(seconds, Resolution.P1080, TODAY)
    assert cost is not None
    assert cost.as_tuple().exponent == -6
    exact_numerator, exact_denominator = seconds.as_integer_ratio()
    numerator, denominator = cost.as_integer_ratio()
    difference = abs(numerator * exact_denominator * 20 - exact_numerator * 3 * denominator)
    assert difference * 2_000_000 <= 20 * exact_denominator * denominator


@given(INPUTS, DURATIONS)
def test_bounds_are_in_order(input_s: Decimal | None, duration: int) -> None:
    """Low ≤ expected ≤ worst, whatever is known of the input."""
    assert (
        low_seconds(input_s, duration)
        <= expected_seconds(input_s, duration)
        <= worst_seconds(input_s, duration)
    )


@given(st.decimals(2, 10, places=3), DURATIONS)
def test_unknown_input_covers_known(input_s: Decimal, duration: int) -> None:
    """The interval of an unknown input holds that of every input the service takes."""
    assert low_seconds(None, duration) <= low_seconds(input_s, duration)
    assert worst_seconds(input_s, duration) <= worst_seconds(None, duration)


@pytest.mark.parametrize(
    ("input_s", "duration", "low", "worst"),
    [
        ("5.02", 0, "10.04", "10.04"),
        ("9", 3, "6", "12"),
        ("4", 10, "8", "8"),
        (None, 0, "4", "20"),
        (None, 5, "4", "15"),
    ],
)
def test_seconds_by_hand(input_s: str | None, duration: int, low: str, worst: str) -> None:
    """The bounds of a whole, a cut, an overlong and an unknown input, worked out by hand."""
    known = None if input_s is None else Decimal(input_s)
    assert (low_seconds(known, duration), worst_seconds(known, duration)) == (Decimal(low), Decimal(worst))


def test_card_of_ones_own(tmp_path: Path) -> None:
    """A file's card holds on its first and last day, and on no day outside."""
    card = RateCard.load(write(tmp_path, CARD))
    first, last, day = date(2026, 1, 1), date(2026, 6, 30), timedelta(days=1)
    assert [card.rate(Resolution.P720, on) is not None for on in (first - day, first, last, last + day)] == [
        False,
        True,
        True,
        False,
    ]
    assert card.rate(Resolution.P1080, first) is None


def test_prices_follow_each_other(tmp_path: Path) -> None:
    """When a card ends the day before the next begins, every day has one price."""
    later = (
        CARD.replace("2026-01-01", "2026-07-01").replace("2026-06-30", "2026-12-31").replace("0.08", "0.09")
    )
    card = RateCard.load(write(tmp_path, CARD + later))
    days = (date(2026, 6, 30), date(2026, 7, 1))
    assert [card.cost(Decimal(1), Resolution.P720, on) for on in days] == [Decimal("0.08"), Decimal("0.09")]


def test_discount_and_free_quota(tmp_path: Path) -> None:
    """A discount lowers the price; the free quota is expressed and takes off seconds only where asked."""
    card = RateCard.load(str(write(tmp_path, CARD + 'discount = "0.25"\nfree_quota_s = "50"\n')))
    rate = card.rate(Resolution.P720, date(2026, 3, 1))
    assert rate is not None
    assert rate.unit_price == Decimal("0.06")
    assert rate.chargeable(Decimal(10), used_before=Decimal(45)) == 5
    assert rate.cost(Decimal(10)) == Decimal("0.6")


@given(SECONDS, SECONDS, SECONDS)
def test_free_quota_is_used_once(first: Decimal, second: Decimal, quota: Decimal) -> None:
    """Two edits one after the other are charged together what one of both lengths would be."""
    rate = Rate(
        card="mine 2026-01-01",
        service="mine",
        currency="EUR",
        resolution=Resolution.P720,
        unit_price=Decimal(1),
        effective_from=TODAY,
        effective_until=None,
        source="my contract",
        free_quota_s=quota,
    )
    nothing = Decimal(0)
    together = rate.chargeable(first, nothing) + rate.chargeable(second, first)
    assert together == rate.chargeable(first + second, nothing)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"0.08"', '"-1"', "card 1, unit_price: '-1' is no amount"),
        ('"0.08"', '"cheap"', "card 1, unit_price: 'cheap' is no amount"),
        ('"0.08"', '"NaN"', "card 1, unit_price: 'NaN' is no amount"),
        ('"0.08"', "0.08", "card 1, unit_price: 0.08 is no amount; write a positive number in quotes"),
        ('"0.08"', '"0"', "card 1, unit_price: is zero"),
        ("{ 720P", "{ 4K", "card 1, unit_price: '4K' is no resolution; use 720P or 1080P"),
        ('{ 720P = "0.08" }', '"0.08"', "card 1, unit_price: has no prices"),
        ('source = "my contract"', "", "card 1, source: is missing"),
        ('"my contract"', '" "', "card 1, source: is empty"),
        ("source", "sauce", "card 1, sauce: is not a field of a card"),
        ("EUR", "euro", "card 1, currency: 'euro' is no currency code"),
        ("2026-01-01", '"2026-01-01"', "card 1, effective_from: '2026-01-01' is no date"),
        ("2026-01-01", "2026-01-01T00:00:00", "card 1, effective_from: datetime"),
        ("2026-06-30", "2025-06-30", "card 1, effective_until: 2025-06-30 is before effective_from"),
        ("[[card]]", '[[card]]\ndiscount = "1"', "card 1, discount: 1 is not below 1"),
        ("[[card]]", "[card", "not TOML"),
        ("[[card]]", "[[cards]]", "holds more than [[card]] entries; remove cards"),
        (CARD, "", "cards of nothing"),
        (CARD, CARD + CARD.replace("mine", "yours"), "cards of mine in EUR, yours in EUR; give one file"),
        (
            CARD,
            CARD + CARD.replace("EUR", "USD").replace("2026-0", "2027-0"),
            "cards of mine in EUR, mine in USD",
        ),
        (CARD, CARD + CARD.replace("2026-01-01", "2026-06-30"), "720P: their dates overlap"),
        (CARD, CARD + CARD, "720P: their dates overlap"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    """Every mistake in a file is one line that names the file, the entry, the field and what to do."""
    path = write(tmp_path, CARD.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        RateCard.load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert says in message
    assert ";" in message
    assert len(message.splitlines()) == 1


def test_no_such_card() -> None:
    """A name that is neither a built-in service nor a file is answered with the names there are."""
    with pytest.raises(UsageError, match="give a rate card file or one of beijing, emulator, singapore"):
        RateCard.load("atlantis")
