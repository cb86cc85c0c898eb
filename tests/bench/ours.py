"""The real flow in a process of its own, all of whose waiting is as fast as the emulator's time.

The flow is the one that `wanbatch run` starts. What is replaced is the clock: sleeping `s` seconds takes `s / speed`,
in the walk, the watcher, the pacing, the bookkeeping and the progress alike, as in the peers.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.machine import Ran, Running
from wanbatch.settings import quiet_prefect

if TYPE_CHECKING:
    from tests.bench.account import Served
    from wanbatch.options import RunOptions
    from wanbatch.summary import Summary

_FINE = (0, 3, 4, 5)
"""All is well, some failed, more to do, parked."""


@dataclass(frozen=True)
class Ours:
    """A folder with a manifest, and what runs it."""

    account: Served
    folder: Path
    prefect: dict[str, str]

    @property
    def manifest(self) -> Path:
        """What is to be edited."""
        return self.folder / "m.csv"

    def start(self, **options: Any) -> Running:
        """Start the flow; once more is the way to go on.

        `speed` is that of its clock, the emulator's unless told otherwise; `plain` leaves Prefect out.
        """
        clock = self.account.clock(options.pop("speed", None))
        plain = options.pop("plain", False)
        asked = {
            "manifest": str(self.manifest),
            "service": "emulator",
            "ledger": str(self.folder / "ledger"),
            "videos": str(self.folder / "videos"),
            "probe": False,
        }
        job = json.dumps({"options": asked | options, "clock": clock, "plain": plain})
        return Running("ours", job, environment=self.account.environment | self.prefect)

    def run(self, **options: Any) -> Ran:
        """Run the flow to its end."""
        return self.start(**options).ended(expected=_FINE)


def _live_fast(speed: float, start: str, zero: float) -> None:
    """Let everything of ours in this process that tells the time or waits do so by that clock."""
    from flows import artifacts  # noqa: PLC0415 - heavy
    from tests.crash.worker import FastClock  # noqa: PLC0415
    from wanbatch import opening  # noqa: PLC0415
    from wanbatch.journal import Journal  # noqa: PLC0415

    clock = FastClock(datetime.fromisoformat(start), zero, speed)
    setattr(opening, "SystemClock", lambda: clock)  # noqa: B010 - a class, to be replaced
    setattr(Journal, "_now", lambda _journal, _db: clock.now())  # noqa: B010 - a method, to be replaced
    artifacts._PROGRESS_EVERY_S /= speed


async def _plain(options: RunOptions) -> Summary:
    """Do what the flow does, without Prefect."""
    from wanbatch import walk  # noqa: PLC0415 - heavy
    from wanbatch.opening import open_session  # noqa: PLC0415
    from wanbatch.summary import summarise  # noqa: PLC0415

    async with open_session(options) as session:
        await walk.edit_videos(session, walk.Steps())
        return await summarise(session)


def _main(job: dict[str, Any]) -> int:
    quiet_prefect()
    from prefect.client.schemas.objects import State  # noqa: PLC0415

    from flows.edit_videos import edit_videos  # noqa: PLC0415 - after Prefect was told to be quiet
    from wanbatch.options import RunOptions  # noqa: PLC0415

    _live_fast(**job["clock"])
    options = RunOptions(**job["options"])
    summary = asyncio.run(_plain(options) if job["plain"] else edit_videos(options))
    assert not isinstance(summary, State)
    print(json.dumps({"cost": str(summary.cost), "reason": summary.reason}))  # noqa: T201 - the result
    return int(summary.exit_code)


if __name__ == "__main__":
    sys.exit(_main(json.loads(sys.argv[1])))
