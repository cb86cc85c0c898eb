"""M11: how long it takes a run that was killed half-way to go on, and what it creates that was there already.

The first half is done without Prefect, which only makes it quicker; it is killed, and the real flow goes on in real
time. What counts is its first call to the emulator after the greeting that every run begins with. Another run then
settles what is open.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.bench.account import Served, served
from tests.bench.figures import Figure
from tests.bench.machine import BenchError
from tests.bench.ours import Ours
from tests.conftest import write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.machine import Running
    from tests.bench.setting import Setting

_FAST = {"speed": 200, "slots": 40}
_WIDE = {"slots": 40, "submit_rate": 100.0, "query_rate": 100.0, "poll_interval": 15.0}
_GREETING = 1
_NEW = 5
"""New edits of the run that then goes on to its end."""
_PATIENCE_S = 400.0


def measure(setting: Setting, folder: Path, prefect: dict[str, str]) -> Iterator[Figure]:
    """Kill a run at half, take the time of the next, and of one that has one row alone."""
    half = setting.resume_items // 2
    with served(seed=setting.seed, **_FAST) as account, served(seed=setting.seed, **_FAST) as other:
        full, small = folder / "full", folder / "small"
        for home, rows in ((full, setting.resume_items), (small, 1)):
            home.mkdir()
            write_manifest(home / "m.csv", rows)
        _kill_at(Ours(account, full, prefect).start(plain=True, **_WIDE), account, half)
        resumed = _first_action(Ours(account, full, prefect), account)
        Ours(account, full, prefect).run(plain=True, limit=_NEW, **_WIDE)
        prompts = Counter(task["prompt"] for task in account.get("tasks")["tasks"])
        starts = [_first_action(Ours(other, small, prefect), other)]
    yield Figure(
        measure="M11",
        what="kill at half to first action, less an empty start",
        unit="s",
        ours=max(resumed - starts[0], 0.0),
        goal=5,
        runs=[resumed],
        note=f"{setting.resume_items:,} rows, {half:,} done; {resumed:.1f} s, {starts[0]:.1f} s for a single row",
    )
    yield Figure(
        measure="M11",
        what="creates of what was there",
        unit="",
        ours=prompts.total() - len(prompts),
        goal=0,
        note="by prompt, after the run went on",
    )


def _kill_at(run: Running, account: Served, tasks: int) -> None:
    until = time.monotonic() + _PATIENCE_S
    while len(account.log().calls["submit"]) < tasks:
        if time.monotonic() > until:
            run.kill()
            raise BenchError(f"it never had {tasks:,} tasks at the service")
        time.sleep(0.1)
    run.kill()
    run.ended(expected=(-9,))


def _first_action(ours: Ours, account: Served) -> float:
    """Start the flow, in real time, and kill it when it acts.

    Gives the seconds from the start of the process to its first call after the greeting.
    """
    before = sum(map(len, account.log().calls.values()))
    run = ours.start(speed=1.0)
    while sum(map(len, account.log().calls.values())) <= before + _GREETING:
        if time.monotonic() > run.started_at + _PATIENCE_S:
            run.kill()
            raise BenchError("it never went on")
        time.sleep(0.01)
    first = time.monotonic() - run.started_at
    run.kill()
    run.ended(expected=(-9,))
    return first
