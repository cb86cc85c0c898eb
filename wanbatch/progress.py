"""How far a run is, for whoever watches it."""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Progress:
    """Counts of a run; changed by the run alone, read by anybody."""

    run_id: str
    currency: str | None
    budget: Decimal | None = None
    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """submitted, tried_again, succeeded, failed …, parked, left_open, elsewhere, duplicates, done_before …"""
    spent: Decimal = Decimal(0)
    reserved: Decimal = Decimal(0)
    """The worst that what is in flight can still cost."""
    elapsed_s: float = 0.0
    slots: int = 0
    running: int = 0
    others: int = 0
    """Edits that run on the same account and are not of this run."""
    in_doubt: int = 0
    trouble: str | None = None
    """What is wrong with the service right now."""

    @property
    def settled_here(self) -> int:
        """How many edits this run has settled."""
        return sum(self.counts[name] for name in ("succeeded", "failed", "refused", "cancelled", "expired"))

    @property
    def left_s(self) -> float | None:
        """How long the rest will take at the pace so far; None before there is one."""
        done = self.settled_here
        if done < _ENOUGH or not self.elapsed_s:
            return None
        return (self.rows - self.settled) * self.elapsed_s / done

    def count(self, **changes: int) -> None:
        """Add to some counts."""
        self.counts.update(changes)

    @property
    def settled(self) -> int:
        """How many rows of the manifest need nothing more."""
        names = (
            "succeeded",
            "failed",
            "refused",
            "cancelled",
            "expired",
            "done_before",
            "failed_before",
            "duplicates",
        )
        return sum(self.counts[name] for name in names)


_ENOUGH = 5
"""So many edits make a pace."""

notify: ContextVar[Callable[[str, str, dict[str, Any]], None] | None] = ContextVar("notify", default=None)
"""Who is told of what somebody may want to act on: an event's name, whom it is about, and its facts."""


EVENTS = {
    "run.finished": "a run is over; the payload has its exit code and counts",
    "budget.stopped": "the next edit did not fit under the budget",
    "attempt.parked": "a submit got no answer and what it made can't be found out: `wanbatch resolve`",
    "expiry.risk": "a paid result can't be fetched, and is gone in less than four hours",
}
"""What is announced, and when."""


def announce(event: str, about: str, **facts: Any) -> None:
    """Say that something happened that somebody may want to act on."""
    if listener := notify.get():
        listener(event, about, facts)


report_to: ContextVar[Callable[[Progress], None] | None] = ContextVar("report_to", default=None)
"""Who is told, about once a second; set by the command line."""
