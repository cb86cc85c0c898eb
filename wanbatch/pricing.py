"""Usage to money: dated rate cards, exact decimals, and how many seconds an edit may be billed for.

Billed are the seconds of the input video plus those of the output; images and failed edits are free:
https://www.alibabacloud.com/help/en/model-studio/wan-video-editing-api-reference
A price that is not on a card is unknown, which is never the same as nothing.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from wanbatch.errors import UsageError
from wanbatch.models import DURATION_RANGE, Resolution

_MONEY = Decimal("0.000001")
_EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN)
"""Wide enough that a product is never rounded before it is quantised."""
_SHORTEST, _LONGEST = (Decimal(seconds) for seconds in DURATION_RANGE)
_REQUIRED = frozenset({"service", "currency", "unit_price", "effective_from", "source", "noted"})
_OPTIONAL = frozenset({"effective_until", "discount", "free_quota_s"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The price of one resolution at one service over some days; both ends are included."""

    card: str
    """What the ledger calls it: "singapore 2026-04-02"."""
    service: str
    currency: str
    resolution: Resolution
    unit_price: Decimal
    """Per billable second, discount taken off."""
    effective_from: date
    effective_until: date | None
    source: str
    free_quota_s: Decimal = Decimal(0)

    def cost(self, seconds: Decimal) -> Decimal:
        """Price billable seconds, to six places half-even."""
        return _money(_EXACT.multiply(seconds, self.unit_price))

    def chargeable(self, seconds: Decimal, used_before: Decimal) -> Decimal:
        """Take off what is left of the free quota after `used_before` billable seconds."""
        return max(Decimal(0), seconds - max(Decimal(0), self.free_quota_s - used_before))

    def holds(self, on: date) -> bool:
        """Whether this is the price of that UTC day."""
        return self.effective_from <= on and (self.effective_until is None or on <= self.effective_until)


@dataclass(frozen=True, slots=True)
class RateCard:
    """The prices of one service."""

    rates: tuple[Rate, ...] = ()

    @classmethod
    def load(cls, source: str | Path | None) -> RateCard:
        """Read the prices of a built-in service by its name, or of a TOML file shaped like `rates.toml`.

        None is a service without known prices. Raises `UsageError` that names file, entry and field.
        """
        if source is None:
            return cls()
        built_in = _parse(files("wanbatch").joinpath("rates.toml").read_text(encoding="utf-8"), "rates.toml")
        rates = tuple(rate for rate in built_in if rate.service == source)
        return cls(rates or _read(Path(source), sorted({rate.service for rate in built_in})))

    @property
    def currency(self) -> str | None:
        """The one currency of all its prices; None without any."""
        return self.rates[0].currency if self.rates else None

    def rate(self, resolution: Resolution, on: date) -> Rate | None:
        """Find the price of a resolution on a UTC day; None when it is not known."""
        return next((rate for rate in self.rates if rate.resolution is resolution and rate.holds(on)), None)

    def cost(self, seconds: Decimal, resolution: Resolution, on: date) -> Decimal | None:
        """Price billable seconds on a UTC day; None when the price is not known."""
        rate = self.rate(resolution, on)
        return rate.cost(seconds) if rate else None


def worst_seconds(input_s: Decimal | None, duration: int) -> Decimal:
    """Bound the billable seconds from above: the whole input, and the output.

    `duration` is what was asked for, 0 for the input's own. An unknown input is as long as the service takes.
    """
    whole = _LONGEST if input_s is None else input_s
    return whole + _output(whole, duration)


def expected_seconds(input_s: Decimal | None, duration: int) -> Decimal:
    """Estimate the billable seconds; for an unknown input, of one midway between shortest and longest.

    It is not documented whether a cut input is billed whole or as cut, so it is taken as billed whole.
    """
    return worst_seconds((_SHORTEST + _LONGEST) / 2 if input_s is None else input_s, duration)


def low_seconds(input_s: Decimal | None, duration: int) -> Decimal:
    """Bound the billable seconds from below: the input is billed as cut, not whole."""
    return 2 * _output(_SHORTEST if input_s is None else input_s, duration)


def _output(whole: Decimal, duration: int) -> Decimal:
    return min(Decimal(duration), whole) if duration else whole


def _money(amount: Decimal) -> Decimal:
    return _EXACT.quantize(amount, _MONEY)


def _read(path: Path, built_in: list[str]) -> tuple[Rate, ...]:
    known = ", ".join(built_in)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not text"
        raise UsageError(f"{path}: {reason}; give a rate card file or one of {known}") from None
    rates = _parse(text, str(path))
    bills = sorted({f"{rate.service} in {rate.currency}" for rate in rates})
    if len(bills) != 1:
        found = ", ".join(bills) or "nothing"
        raise UsageError(f"{path}: cards of {found}; give one file per service and currency, with its cards")
    return rates


def _parse(text: str, file: str) -> tuple[Rate, ...]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: not TOML: {error}; correct it there") from None
    cards = document.pop("card", [])
    if document or not isinstance(cards, list) or not all(isinstance(card, dict) for card in cards):
        raise UsageError(
            f"{file}: holds more than [[card]] entries; remove {', '.join(document) or 'the rest'}"
        )
    rates = tuple(rate for number, card in enumerate(cards, 1) for rate in _Entry(file, number, card).rates())
    _refuse_overlaps(rates, file)
    return rates


def _refuse_overlaps(rates: tuple[Rate, ...], file: str) -> None:
    ordered = sorted(rates, key=lambda rate: (rate.service, rate.resolution, rate.effective_from))
    for one, two in pairwise(ordered):
        same = (one.service, one.resolution) == (two.service, two.resolution)
        if same and one.holds(two.effective_from):
            raise UsageError(
                f"{file}: {one.card} and {two.card}, {one.resolution}: their dates overlap; "
                f"end the earlier with effective_until"
            )


@dataclass(frozen=True, slots=True)
class _Entry:
    """One [[card]] of a file, read field by field; every mistake says where it is."""

    file: str
    number: int
    fields: dict[str, Any]

    def rates(self) -> list[Rate]:
        if unknown := sorted(self.fields.keys() - _REQUIRED - _OPTIONAL):
            raise self.wrong(unknown[0], "is not a field of a card", "remove it or correct its name")
        if missing := sorted(_REQUIRED - self.fields.keys()):
            raise self.wrong(missing[0], "is missing", "add it")
        self.day("noted")
        start, end = self.day("effective_from"), self.last_day()
        service, currency = self.text("service"), self.text("currency")
        if not re.fullmatch("[A-Z]{3}", currency):
            raise self.wrong(
                "currency", f"{currency!r} is no currency code", "write three capitals, like USD"
            )
        return [
            Rate(
                card=f"{service} {start}",
                service=service,
                currency=currency,
                resolution=resolution,
                unit_price=price,
                effective_from=start,
                effective_until=end,
                source=self.text("source"),
                free_quota_s=self.number_of("free_quota_s", self.fields.get("free_quota_s", "0")),
            )
            for resolution, price in self.prices().items()
        ]

    def prices(self) -> dict[Resolution, Decimal]:
        table = self.fields["unit_price"]
        if not isinstance(table, dict) or not table:
            raise self.wrong("unit_price", "has no prices", 'write them as { 720P = "0.10", 1080P = "0.15" }')
        if unknown := sorted(table.keys() - set(Resolution)):
            raise self.wrong("unit_price", f"{unknown[0]!r} is no resolution", "use 720P or 1080P")
        discount = self.number_of("discount", self.fields.get("discount", "0"))
        if discount >= 1:
            raise self.wrong(
                "discount", f"{discount} is not below 1", 'write the fraction off, "0.1" for 10 %'
            )
        return {Resolution(name): self.price(text, 1 - discount) for name, text in table.items()}

    def price(self, text: Any, share: Decimal) -> Decimal:
        price = _money(_EXACT.multiply(self.number_of("unit_price", text), share))
        if not price:
            raise self.wrong("unit_price", "is zero", "leave out a resolution whose price is not known")
        return price

    def number_of(self, field: str, text: Any) -> Decimal:
        try:
            number = Decimal(text) if isinstance(text, str) else None
        except InvalidOperation:
            number = None
        if number is None or not number.is_finite() or number < 0 or number > 10**9:
            raise self.wrong(
                field, f"{text!r} is no amount", 'write a positive number in quotes, like "0.10"'
            )
        return number

    def day(self, field: str) -> date:
        value = self.fields[field]
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self.wrong(field, f"{value!r} is no date", "write it without quotes, like 2026-04-02")
        return value

    def last_day(self) -> date | None:
        if "effective_until" not in self.fields:
            return None
        end = self.day("effective_until")
        if end < self.fields["effective_from"]:
            raise self.wrong("effective_until", f"{end} is before effective_from", "put them in order")
        return end

    def text(self, field: str) -> str:
        value = self.fields[field]
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(field, "is empty", "write some text in quotes")
        return value

    def wrong(self, field: str, rule: str, mend: str) -> UsageError:
        return UsageError(f"{self.file}, card {self.number}, {field}: {rule}; {mend}")
