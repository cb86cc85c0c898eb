"""Time: the clock, sleeping, rates and back-off. Everything that waits takes its clock from here.

The account's limits are the vendor's: https://www.alibabacloud.com/help/en/model-studio/rate-limit
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


POLL_INTERVAL_S = 4.5
"""Between two looks at the service unless a run asks for another; single questions change with it."""


class Clock(Protocol):
    """The effects of time; tests and simulations bring their own."""

    def now(self) -> datetime:
        """Tell the time, in UTC."""

    def monotonic(self) -> float:
        """Count seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """Tell the time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Count seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


_BEYOND_REASON = timedelta(days=3_650)


class ServiceClock:
    """The service's time, as its `Date` headers tell it: ages and deadlines are counted in it, never in ours.

    A machine's clock may be wrong or jump; the 24 hours of a task run by the service's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: datetime | None = None
        self._seen_at = 0.0

    def observe(self, date: datetime) -> None:
        """Take note of a `Date` header, unless it is beyond all reason."""
        if abs(date - self._clock.now()) > _BEYOND_REASON:
            return
        self._seen = date
        self._seen_at = self._clock.monotonic()

    @property
    def last_seen(self) -> datetime | None:
        """The last `Date` header itself: whatever is sent from now on happens at the service after it."""
        return self._seen

    def now(self) -> datetime:
        """Estimate the service's time; our own until it has answered once."""
        if self._seen is None:
            return self._clock.now()
        return self._seen + timedelta(seconds=self._clock.monotonic() - self._seen_at)


class Rate:
    """At most `per_second` passes in any second, as the far end counts them.

    Passes are spaced evenly and a little wider than the limit asks, since the network squeezes them together.
    A refusal by the far end (`back_off`) holds everybody, and lets nobody through in a bunch afterwards; one that
    was about the rate itself (`slow_down`) widens the spacing, too, which is back to normal within a minute.
    """

    SLACK = 1.1

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._usual = self.SLACK / per_second
        self._clock = clock
        self._next = 0.0
        self._slowness = 1.0
        self._slowed_at = 0.0
        self._turn = asyncio.Lock()
        self.sharers = 1
        """How many runs divide the rate among them."""

    @property
    def interval_s(self) -> float:
        """The spacing right now."""
        over = (self._clock.monotonic() - self._slowed_at) / _RECOVERED_S
        slowness = 1.0 + (self._slowness - 1.0) * max(0.0, 1.0 - max(0.0, over))
        return self._usual * self.sharers * slowness

    async def wait(self) -> None:
        """Wait for a turn; first come, first served."""
        async with self._turn:
            while (ahead := self._next - self._clock.monotonic()) > 0:  # a back-off may come meanwhile
                await self._clock.sleep(ahead)
            self._next = self._clock.monotonic() + self.interval_s

    def back_off(self, seconds: float) -> None:
        """Let nobody pass for a while."""
        self._next = max(self._next, self._clock.monotonic() + seconds)

    def slow_down(self, times: float, *, after_s: float) -> None:
        """Let nobody pass for a while, and then fewer than usual, until the rate has recovered."""
        self._slowness = min(self.interval_s / (self._usual * self.sharers) * times, _SLOWEST)
        self._slowed_at = self._clock.monotonic() + after_s
        self.back_off(after_s)


_RECOVERED_S = 45.0
"""A rate that was slowed down recovers evenly over this time."""
_SLOWEST = 16.0


class Gate:
    """At most `places` inside; whoever has the earliest deadline goes in first."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._count = 0

    @asynccontextmanager
    async def enter(self, deadline: datetime) -> AsyncIterator[None]:
        """Wait for a place, and give it back."""
        await self._take(deadline)
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, deadline: datetime) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (deadline, self._count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()
            raise

    def _give_back(self) -> None:
        while self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def delay(
    tries: int,
    *,
    retry_after_s: float | None = None,
    base_s: float = 1.0,
    wait_max_s: float = 30.0,
    draw: float | None = None,
) -> float:
    """Say how many seconds to wait before try number `tries` + 1 (`tries` counts from 1).

    `Retry-After` is obeyed up to `wait_max_s`, and up to a tenth longer, so that those who were told the same do not
    come back together. Without it the wait doubles, its upper half left to chance.
    `draw` in [0, 1) takes the place of chance.
    """
    chance = random.random() if draw is None else draw  # noqa: S311 - jitter, not a secret
    if retry_after_s is not None:
        return min(max(retry_after_s, 0.0), wait_max_s) * (1.0 + 0.1 * chance)
    ceiling = min(base_s * 2.0 ** min(tries - 1, 30), wait_max_s)
    return ceiling * (0.5 + 0.5 * chance)
