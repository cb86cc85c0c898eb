"""How many calls a second: a sliding window per operation, in the emulator's time."""

from collections import deque
from typing import Final

SECOND_MS: Final = 1000


class Window:
    """Admits at most `limit` calls in any second (0: as many as come) and remembers the busiest second."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.peak = 0
        """The most calls that arrived in any one second, whether admitted or not."""
        self.calls = 0
        self.throttled = 0
        """Those answered with 429, for whatever reason."""
        self._offered: deque[int] = deque()
        self._admitted: deque[int] = deque()

    def offer(self, now: int) -> None:
        """Count a call that arrived at `now` (milliseconds)."""
        self.calls += 1
        _slide(self._offered, now)
        self._offered.append(now)
        self.peak = max(self.peak, len(self._offered))

    def admit(self, now: int) -> bool:
        """Let a call in, or tell that the second is full; a refused call does not count against the next."""
        _slide(self._admitted, now)
        if self.limit and len(self._admitted) >= self.limit:
            return False
        self._admitted.append(now)
        return True


def _slide(moments: deque[int], now: int) -> None:
    while moments and moments[0] <= now - SECOND_MS:
        moments.popleft()
