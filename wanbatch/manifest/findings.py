"""What was found wrong: a bounded list of problems and the count of all of them."""

from __future__ import annotations

from collections import defaultdict

from wanbatch.errors import Problem, Severity
from wanbatch.identity import is_url, without_signature

KEPT = 10_000
"""Problems of one severity that are kept; the rest is only counted."""
_SHOWN = 60


def shown(value: str) -> str:
    """Shorten a cell for people, without credentials or signatures."""
    safe = without_signature(value) if is_url(value) else value.partition("?")[0]
    return safe if len(safe) <= _SHOWN else f"{safe[: _SHOWN - 1]}…"


class Findings:
    """Collects problems; a file of nothing but bad rows costs no more memory than its first 10,000."""

    def __init__(self) -> None:
        self._kept: dict[Severity, list[Problem]] = defaultdict(list)
        self._total: dict[Severity, int] = defaultdict(int)
        self.last_row = 0
        """The last row anything was said about."""

    def add(  # noqa: PLR0917 - the fields of a Problem, in its order
        self,
        row: int,
        column: str,
        value: str,
        rule: str,
        mend: str,
        severity: Severity = Severity.ERROR,
    ) -> None:
        """Add one problem; `value` is shortened and stripped of secrets here."""
        self.last_row = max(self.last_row, row)
        self._total[severity] += 1
        if self.room(severity):
            self._kept[severity].append(Problem(row, column, shown(value), rule, mend, severity))

    def count(self, severity: Severity, more: int, last_row: int) -> None:
        """Count problems that there is no room to keep."""
        self._total[severity] += more
        self.last_row = max(self.last_row, last_row)

    def room(self, severity: Severity) -> int:
        """How many more problems will be kept."""
        return KEPT - len(self._kept[severity])

    def total(self, severity: Severity) -> int:
        """How many there are, kept or not."""
        return self._total[severity]

    def in_order(self, severity: Severity) -> tuple[Problem, ...]:
        """Those that were kept, by row."""
        return tuple(sorted(self._kept[severity], key=lambda problem: problem.row))
