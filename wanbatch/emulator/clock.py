"""The emulator's time: whole milliseconds since the epoch, at any speed or by hand."""

import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from email.utils import formatdate

CHINA = timezone(timedelta(hours=8))
"""The service writes its times in UTC+8 without saying so in the string."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """Runs `speed` times as fast as real time from `start`; a speed of 0 stands still until advanced.

    Safe to share between threads.
    """

    def __init__(self, speed: float = 1.0, start: datetime | None = None) -> None:
        self.speed = speed
        self._base = to_ms(start or datetime.now(UTC))
        self._zero = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """Give the emulator's time in milliseconds since the epoch."""
        return self._base + int((time.monotonic() - self._zero) * 1000 * self.speed)

    def advance(self, seconds: float) -> int:
        """Skip `seconds` (not negative) of the emulator's time; gives the new time in milliseconds."""
        if seconds < 0:
            raise ValueError(f"the clock cannot go back: {seconds} s")
        with self._lock:
            self._base += round(seconds * 1000)
        return self()


def to_ms(moment: datetime) -> int:
    """Give an aware datetime as milliseconds since the epoch."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def utc_text(ms: int) -> str:
    """Give UTC in ISO 8601 with milliseconds: `2026-04-02T16:08:03.576Z`."""
    moment = _EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def china_text(ms: int) -> str:
    """Give the service's own form, UTC+8: `2026-04-03 00:08:03.576`."""
    moment = (_EPOCH + timedelta(milliseconds=ms)).astimezone(CHINA)
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{ms % 1000:03d}"


def http_date(ms: int) -> str:
    """Give the form of HTTP's Date header."""
    return formatdate(ms // 1000, usegmt=True)
