"""Which days a report is about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import pyarrow.compute as pc

from wanbatch.errors import UsageError

_DAYS = re.compile(r"([1-9][0-9]{0,4})d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Period:
    """From a UTC day to a UTC day, both included; None leaves that end open."""

    since: date | None = None
    until: date | None = None

    @property
    def filter(self) -> pc.Expression | None:
        """Give the condition on `settled_at`; None when everything is meant."""
        settled, condition = pc.field("settled_at"), None
        if self.since:
            condition = settled >= _midnight(self.since)
        if self.until:
            before = settled < _midnight(self.until + timedelta(days=1))
            condition = before if condition is None else condition & before
        return condition

    def holds(self, day: date) -> bool:
        """Whether a day is in it."""
        return (self.since is None or self.since <= day) and (self.until is None or day <= self.until)

    def __bool__(self) -> bool:
        """Whether any day is outside it."""
        return self.since is not None or self.until is not None

    def __str__(self) -> str:
        """Say it in words; nothing when everything is meant."""
        since = f"since {self.since}" if self.since else ""
        until = f"until {self.until}" if self.until else ""
        return f"{since} {until}".strip()


def read_period(since: str | None, until: str | None, *, today: date) -> Period:
    """Read `--since` and `--until`: days like 2026-11-01, or 7d.

    Since 7d is the last seven days, `today` included; until 7d is what came before them. Raises `UsageError`.
    """
    period = Period(
        since=_day("--since", since, today, offset=1) if since else None,
        until=_day("--until", until, today, offset=0) if until else None,
    )
    if period.since and period.until and period.since > period.until:
        raise UsageError(f"--since {since} is after --until {until}; put them in order")
    return period


def _day(option: str, text: str, today: date, *, offset: int) -> date:
    try:
        days = _DAYS.fullmatch(text)
        day = today - timedelta(days=int(days[1]) - offset) if days else date.fromisoformat(text)
    except (ValueError, OverflowError):
        day = date.max
    if not date(1970, 1, 1) <= day < date(9999, 1, 1):
        raise UsageError(f"{option} {text}: give a day like 2026-11-01, or so many days back, like 7d")
    return day


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
