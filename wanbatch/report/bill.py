"""A provider's exported bill: CSV with a header line, whatever the columns are called and in which order.

`docs/reports.md` lists the columns and the names they go by.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from wanbatch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

NAMES: Mapping[str, tuple[str, ...]] = {
    "task_id": ("task_id", "task"),
    "day": ("day", "date", "ended_at", "end time", "billing date", "usage date"),
    "model": ("model", "model name"),
    "billed_s": ("billed_s", "billed seconds", "seconds", "duration", "usage", "quantity"),
    "unit_price": ("unit_price", "price", "list price"),
    "currency": ("currency", "billing currency"),
    "cost": ("cost", "amount", "charge", "pretax amount"),
}
"""What a column means, and the headers it goes by; case, spaces, signs and a unit in brackets don't matter."""

_REQUIRED = ("day", "currency", "cost")
_BRACKETS = re.compile(r"[(\uff08\[].*$")
_NO_LETTER = re.compile(r"[^a-z0-9]")
_THOUSANDS = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d+)?", re.ASCII)
_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_DAY = re.compile(r"(\d{4})[-/]?(\d\d)[-/]?(\d\d)", re.ASCII)
_LARGEST = Decimal(10) ** 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One line of a bill. Money in `currency`, the day in UTC where the bill gives a time with its zone."""

    day: date
    model: str
    task_id: str | None
    """None on a bill by day."""
    billed_s: Decimal | None
    unit_price: Decimal | None
    currency: str
    cost: Decimal


def read_bill(path: Path) -> list[Charge]:
    """Read every line of a bill; raises `UsageError` that says which line and column is wrong."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            if not header.strip():
                raise UsageError(f"{path}: is empty; export the bill as CSV")
            mark = max(",;\t", key=header.count)
            names = next(csv.reader([header], delimiter=mark))
            places = _places(path, names)
            return list(_charges(path, csv.reader(file, delimiter=mark, strict=True), places))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give the bill's file") from None
    except (UnicodeDecodeError, csv.Error):
        raise UsageError(f"{path}: is no CSV in UTF-8; export the bill so") from None


def _places(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Find where each column is."""
    found: dict[str, int] = {}
    known = {_bare(name): column for column, names in NAMES.items() for name in names}
    for place, name in enumerate(header):
        column = known.get(_bare(name))
        if column is None:
            continue
        if column in found:
            raise UsageError(f"{path}: {header[found[column]]!r} and {name!r} both give {column}; remove one")
        found[column] = place
    for column in _REQUIRED:
        if column not in found:
            raise UsageError(f"{path}: no column for {column}; call it one of {', '.join(NAMES[column])}")
    return found


def _bare(name: str) -> str:
    return _NO_LETTER.sub("", _BRACKETS.sub("", name).lower())


def _charges(path: Path, lines: Iterator[list[str]], places: Mapping[str, int]) -> Iterator[Charge]:
    for number, line in enumerate(lines, start=2):
        if not any(cell.strip() for cell in line):
            continue
        cells = {name: line[place].strip() if place < len(line) else "" for name, place in places.items()}
        try:
            yield _charge(cells)
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {error}") from None


def _charge(cells: Mapping[str, str]) -> Charge:
    cost = _amount("cost", cells)
    if cost is None:
        raise ValueError("cost is empty; every line of a bill has one")
    if not re.fullmatch("[A-Z]{3}", currency := cells["currency"].upper()):
        raise ValueError(f"{currency[:20]!r} is no currency code like USD")
    if not cells.get("task_id") and not cells.get("model"):
        raise ValueError("names neither a task nor a model; a bill by day needs its models")
    return Charge(
        day=_day(cells["day"]),
        model=cells.get("model", ""),
        task_id=cells.get("task_id") or None,
        billed_s=_amount("billed_s", cells),
        unit_price=_amount("unit_price", cells),
        currency=currency,
        cost=cost,
    )


def _amount(name: str, cells: Mapping[str, str]) -> Decimal | None:
    text = cells.get(name, "")
    if not text:
        return None
    bare = text.replace(",", "") if _THOUSANDS.fullmatch(text) else text
    try:
        amount = Decimal(bare) if _NUMBER.fullmatch(bare) else None
    except InvalidOperation:
        amount = None
    if amount is None or abs(amount) >= _LARGEST:
        raise ValueError(f"{name} {text[:20]!r} is no amount like 1234.56")
    return amount


def _day(text: str) -> date:
    try:
        if parts := _DAY.fullmatch(text):
            return date(*map(int, parts.groups()))
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).date() if moment.tzinfo else moment.date()
    except (ValueError, OverflowError):
        raise ValueError(f"day {text[:40]!r} is no day like 2026-11-22") from None
