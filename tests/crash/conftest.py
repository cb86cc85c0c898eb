"""What the crash tests share: a nursery of workers, and one line of figures at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.crash.nursery import Nursery, nursery


@pytest.fixture(scope="session")
def workers() -> Iterator[Nursery]:
    """Keep what starts workers quickly."""
    with nursery() as started:
        yield started


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Add up the figures that the stories recorded."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for reports in terminalreporter.stats.values():
        for report in reports:
            told = dict(getattr(report, "user_properties", ()))
            if getattr(report, "when", None) == "call" and "starts" in told:
                sums["seeds"] += 1
                for name, figure in told.items():
                    sums[name] += Decimal(figure)
    if sums:
        terminalreporter.write_line("crash: " + ", ".join(f"{name} {sums[name]}" for name in sums))
