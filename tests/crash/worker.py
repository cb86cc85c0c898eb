"""One run of the core in a process of its own, without Prefect: what the crash tests kill.

A job is a JSON file: the run's options, the address of the emulated account, and the clock of this machine,
which goes as fast as the emulator's. It may name a point at which the process dies (see `tests.crash.points`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
from httpx._transports import default as httpx_transport

from tests.conftest import KEY
from tests.crash import points
from wanbatch import client, steps
from wanbatch.errors import WanbatchError
from wanbatch.journal import Journal
from wanbatch.opening import open_session
from wanbatch.options import RunOptions
from wanbatch.settings import ADDRESS_VARIABLE, KEY_VARIABLE
from wanbatch.summary import Summary, summarise
from wanbatch.walk import Steps, edit_videos

if TYPE_CHECKING:
    from wanbatch.models import Item
    from wanbatch.session import Session

_SUBMIT_LIMIT_S = 60.0
_QUERY_LIMIT_S = 5.0
_TLS = httpx.create_ssl_context()
"""Loaded once: a whole run here takes less time than its certificates."""


@dataclass(frozen=True)
class FastClock:
    """A machine's clock that shows `start` when the system has been up for `zero` s, and runs `speed` times as fast."""

    start: datetime
    zero: float
    speed: float

    def now(self) -> datetime:
        """Tell the time, in UTC."""
        return self.start + timedelta(seconds=(time.monotonic() - self.zero) * self.speed)

    def monotonic(self) -> float:
        """Count seconds that never go back."""
        return time.monotonic() * self.speed

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds / self.speed)


def main(path: Path) -> int:
    """Do one job; gives the run's exit code."""
    job = json.loads(path.read_text(encoding="utf-8"))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    os.environ |= {ADDRESS_VARIABLE: job["url"], KEY_VARIABLE: KEY}
    clock = FastClock(datetime.fromisoformat(job["start"]), job["zero"], job["speed"])
    _live_fast(clock)
    points.install(trace=job.get("trace"), die_at=job.get("die_at"))
    try:
        summary = asyncio.run(_run(RunOptions(**job["options"]), clock))
    except WanbatchError as error:
        logging.getLogger().error("%s: %s", type(error).__name__, error)  # noqa: TRY400 - one line, as the CLI
        return int(error.exit_code)
    Path(job["summary"]).write_text(json.dumps(_plain(summary)), encoding="utf-8")
    return int(summary.exit_code)


def _live_fast(clock: FastClock) -> None:
    """Let everything in this process that tells the time or waits do so by that clock."""
    setattr(Journal, "_now", lambda _journal, _db: clock.now())  # noqa: B010 - a method, to be replaced
    steps._SUSPENDED *= clock.speed  # commits take the machine's time, not the emulator's
    client._SUBMIT_S = _SUBMIT_LIMIT_S / clock.speed
    client._QUERY_S = _QUERY_LIMIT_S
    setattr(httpx_transport, "create_ssl_context", lambda **_: _TLS)  # noqa: B010 - not exported


async def _run(options: RunOptions, clock: FastClock) -> Summary:
    async with open_session(options, clock=clock) as session:
        _look_at_names(session)
        await edit_videos(session, Steps())
        return await summarise(session)


def _look_at_names(session: Session) -> None:
    """Take an input's length from its address, as the emulator does when it renders nothing."""

    async def input_seconds(item: Item) -> Decimal | None:
        return Decimal(parse_qs(urlsplit(item.request.video).query)["seconds"][0])

    session.input_seconds = input_seconds  # type: ignore[method-assign]  # there is no video to look at


def _plain(summary: Summary) -> dict[str, Any]:
    return {
        "run_id": summary.run_id,
        "reason": summary.reason,
        "rows": summary.rows,
        "counts": dict(summary.counts),
        "cost": str(summary.cost),
        "lost": summary.lost,
        "parked": [attempt.item.name for attempt in summary.parked],
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
