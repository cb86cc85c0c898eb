"""How far a run is, for whoever watches it."""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal


@dataclass(slots=True)
class Progress:
    """Counts of a run; changed by the run alone, read by anybody."""

    run_id: str
    currency: str | None
    budget: Decimal | None = None
    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """submitted, tried_again, succeeded, failed …, parked, left_open, elsewhere, duplicates, done_before …"""
    committed: Decimal | None = None
    """Spent and reserved."""
    spent: Decimal | None = None
    at_service: int = 0
    """Edits that hold a place in the window."""
    in_doubt: int = 0
    trouble: str | None = None
    """What is wrong with the service right now."""

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


report_to: ContextVar[Callable[[Progress], None] | None] = ContextVar("report_to", default=None)
"""Who is told, about once a second; set by the command line."""
