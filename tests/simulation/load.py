"""What a run costs the machine it is on: how late its loop is, its memory and its processor time."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_BEAT_S = 0.01
_PAGE = 4096
MB = 1 << 20


@dataclass(slots=True)
class Load:
    """Measured every hundredth of a second while a run went on."""

    late_s: list[float] = field(default_factory=list)
    """How much later than asked for the loop came back, each time."""
    rss: list[int] = field(default_factory=list)
    """Bytes of memory, each time."""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    """Of this process, all threads."""

    @property
    def growth(self) -> int:
        """Bytes that the second half of the run added."""
        return self.rss[-1] - self.rss[len(self.rss) // 2]

    def __str__(self) -> str:
        """Sum it up in one line."""
        cuts = quantiles(self.late_s, n=100)
        late = f"p50 {cuts[49] * 1000:.1f}, p99 {cuts[98] * 1000:.1f}, max {max(self.late_s) * 1000:.0f} ms"
        half, end = (self.rss[at] / MB for at in (len(self.rss) // 2, -1))
        return f"{self.wall_s:.0f} s, processor {self.cpu_s:.0f} s; loop late by {late}; RSS {half:.0f}, {end:.0f} MB"


@asynccontextmanager
async def measured() -> AsyncIterator[Load]:
    """Measure the loop and the process while the block runs."""
    load = Load()
    wall, cpu = time.perf_counter(), time.process_time()
    heart = asyncio.create_task(_beat(load))
    try:
        yield load
    finally:
        heart.cancel()
        load.wall_s, load.cpu_s = time.perf_counter() - wall, time.process_time() - cpu


async def _beat(load: Load) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _BEAT_S
        await asyncio.sleep(_BEAT_S)
        load.late_s.append(loop.time() - due)
        load.rss.append(memory())


def memory() -> int:
    """Read how many bytes of this process are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
