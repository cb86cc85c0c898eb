"""The bounded number of edits that are at the service at once: its slots, and a few queued ahead.

Queued ahead, so that no slot idles between an end and our noticing it. The window narrows when the service says
that it queues nothing, and when strangers on the same account hold its slots; it widens again by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from wanbatch.pace import Clock
    from wanbatch.settings import Limits

LONG_PENDING = timedelta(seconds=188)
"""With as few queued ahead as we queue, an edit that waits for longer than one usually runs waits for strangers."""
_WIDER_EVERY_S = 30.0
"""How often one edit more is tried where the service refused it: a refusal costs a request, an idle slot costs time."""
_QUEUE_AGAIN_S = 600.0
"""How long the service is believed to queue nothing after it refused an edit for its number."""
_YIELD_S = 5.0
"""What is beyond our share of shared slots is taken only after everybody else had time to."""


class SharedSlots(Protocol):
    """The account's places, where other processes use them too."""

    async def take(self) -> None:
        """Wait for one of them."""

    def give_back(self) -> None:
        """Return one of them, without waiting."""


class Window:
    """Lets so many edits be at the service at once, first come, first served."""

    def __init__(self, limits: Limits, clock: Clock, *, shared: SharedSlots | None = None) -> None:
        self.slots = limits.slots
        self._ahead = limits.queue_ahead
        self._clock = clock
        self._shared = shared
        self._spare = 0
        """Shared places in hand that nobody of ours is in yet."""
        self._queued_again_at = 0.0
        self._widened_at = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.places = limits.window
        self.runs = 1
        """How many live runs the account's shared places are divided among."""
        self.taken = 0
        self.at_service = 0
        """Those in the window that the service has, or may have."""

    @property
    def refuses(self) -> bool:
        """Whether the service refuses what it can't start at once, as far as we know."""
        return self._clock.monotonic() < self._queued_again_at

    @property
    def _most(self) -> int:
        return self.slots if self.refuses else self.slots + self._ahead

    @property
    def _share(self) -> int:
        return -(-self._most // self.runs)

    async def enter(self, *, first: bool = False) -> Place:
        """Wait for a place; `first`: before everybody who has not been in yet."""
        await self._turn(first=first)
        if self._shared:
            try:
                await self._take_shared(self._shared)
            except BaseException:
                self._taken_back()
                raise
        return Place(self, shared=self._shared is not None)

    def occupy(self) -> Place:
        """Take a place for an edit that is at the service already: whatever waits, its result must be fetched."""
        self.taken += 1
        place = Place(self, shared=False)
        place.arrived()
        return place

    def leave(self, *, arrived: bool, shared: bool) -> None:
        """Take a place back."""
        self.at_service -= arrived
        followed = self._taken_back()
        if shared and self._shared:
            if followed and self.taken <= self._share:
                self._spare += 1  # for the one that follows
            else:
                self._shared.give_back()

    def refused(self) -> None:
        """Take note that the service refused an edit for the number of those that it has."""
        now = self._clock.monotonic()
        self._queued_again_at = now + _QUEUE_AGAIN_S
        self._widened_at = now
        self.places = min(max(self.at_service, 1), self.slots)

    def seen(self, *, running: int, pending: int, waits: timedelta) -> None:
        """Take note of how many of ours run and wait, and of the longest time that one of them has waited."""
        if waits > LONG_PENDING:
            self.places = min(self.places, max(1, running + self._ahead))
        elif not self.refuses and pending < self._ahead:
            self._widen(min(self._most, max(self.places, running + self._ahead)))
        elif self.refuses and self._clock.monotonic() - self._widened_at > _WIDER_EVERY_S:
            self._widened_at = self._clock.monotonic()
            self._widen(min(self._most, self.places + 1))

    def _widen(self, places: int) -> None:
        self.places = places
        self._let_in()

    async def _turn(self, *, first: bool) -> None:
        if self.taken < self.places and (first or not self._waiting):
            self.taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if first else self._waiting.append)(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._taken_back()
            raise

    async def _take_shared(self, shared: SharedSlots) -> None:
        if self._spare:
            self._spare -= 1
            return
        if self.taken > self._share:
            await self._clock.sleep(_YIELD_S)
        await shared.take()

    def _taken_back(self) -> bool:
        self.taken -= 1
        return self._let_in()

    def _let_in(self) -> bool:
        before = self.taken
        while self._waiting and self.taken < self.places:
            turn = self._waiting.popleft()
            if not turn.done():
                self.taken += 1
                turn.set_result(None)
        return self.taken > before


class Place:
    """A place in the window; given back once, when the service is done with the edit."""

    def __init__(self, window: Window, *, shared: bool) -> None:
        self._window: Window | None = window
        self._shared = shared
        self._arrived = False

    def arrived(self) -> None:
        """Say that the service has the edit, or may have it."""
        if self._window and not self._arrived:
            self._arrived = True
            self._window.at_service += 1

    def leave(self) -> None:
        """Give the place to the next edit; doing it again changes nothing."""
        if self._window:
            self._window.leave(arrived=self._arrived, shared=self._shared)
            self._window = None
