"""What the account owes: the emulator's own truth, one charge per edit that SUCCEEDED."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from wanbatch.emulator.clock import utc_text
from wanbatch.emulator.config import EmulatorConfig

COLUMNS: Final = (
    "task_id",
    "request_id",
    "who",
    "model",
    "submitted_at",
    "ended_at",
    "input_video_s",
    "output_video_s",
    "billed_s",
    "resolution",
    "unit_price",
    "currency",
    "cost",
)


@dataclass(frozen=True, slots=True)
class Usage:
    """The seconds an edit bills, each to the hundredth."""

    input_s: Decimal
    output_s: Decimal

    @property
    def billed_s(self) -> Decimal:
        """Input and output are billed alike."""
        return self.input_s + self.output_s


@dataclass(frozen=True, slots=True)
class Charge:
    """One billed edit; times are milliseconds since the epoch."""

    task_id: str
    request_id: str
    who: str
    model: str
    submitted: int
    ended: int
    resolution: str
    usage: Usage


class Bill:
    """The account's charges in the order the edits ended; they stay when the tasks have expired."""

    def __init__(self, config: EmulatorConfig) -> None:
        self._config = config
        self._charges: list[Charge] = []

    def add(self, charge: Charge) -> None:
        """Put one edit on the bill."""
        self._charges.append(charge)

    def rows(self) -> list[dict[str, str]]:
        """Give one row of strings per charge: exact decimals, UTC times in ISO 8601."""
        return [self._row(charge) for charge in tuple(self._charges)]

    def totals(self) -> dict[str, str | int]:
        """Give the number of billed edits, their seconds and their cost."""
        charges = tuple(self._charges)
        return {
            "tasks": len(charges),
            "billed_s": str(_sum(charge.usage.billed_s for charge in charges)),
            "cost": str(_sum(self._cost(charge) for charge in charges)),
            "currency": self._config.currency,
        }

    def csv(self) -> str:
        """Give the rows as CSV with a header line."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(self.rows())
        return text.getvalue()

    def _cost(self, charge: Charge) -> Decimal:
        return charge.usage.billed_s * self._config.price(charge.resolution)

    def _row(self, charge: Charge) -> dict[str, str]:
        usage = charge.usage
        return {
            "task_id": charge.task_id,
            "request_id": charge.request_id,
            "who": charge.who,
            "model": charge.model,
            "submitted_at": utc_text(charge.submitted),
            "ended_at": utc_text(charge.ended),
            "input_video_s": str(usage.input_s),
            "output_video_s": str(usage.output_s),
            "billed_s": str(usage.billed_s),
            "resolution": charge.resolution,
            "unit_price": str(self._config.price(charge.resolution)),
            "currency": self._config.currency,
            "cost": str(self._cost(charge)),
        }


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))
