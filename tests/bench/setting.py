"""What a benchmark is run with; the environment can change it, and it is printed with the figures."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Sizes, speeds and the seed. `BENCH_ROWS=50000` sets `rows`, and so on."""

    seed: int = 1
    """Of the first run; each run after it takes the next."""
    runs: int = 3
    """Medians are of so many."""
    items: int = 200
    """Edits in a run that is timed."""
    speed: int = 50
    """Emulated seconds per second of the runs that are timed."""
    other_speed: int = 100
    """Of the run that shows that the speed does not matter."""
    faulted_items: int = 60
    limit_items: int = 40
    rows: int = 1_000_000
    """Of the big manifest, and of the ledger."""
    resume_items: int = 4_000
    """Half of them are done before the kill, which takes most of that measure's time."""

    @classmethod
    def from_environment(cls) -> Self:
        """Read what is changed."""
        named = {one.name: os.environ.get(f"BENCH_{one.name.upper()}") for one in fields(cls)}
        return cls(**{name: int(text) for name, text in named.items() if text})

    @property
    def seeds(self) -> list[int]:
        """A seed a run."""
        return [self.seed + number for number in range(self.runs)]
