"""An emulated account in a process of its own, which keeps a log of who called when.

As a module it serves: settings come as JSON, an address goes out, `log` asks for the log, an end of input ends it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import KEY, Account
from wanbatch.settings import ADDRESS_VARIABLE, KEY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wanbatch.emulator.task import Task
    from wanbatch.emulator.world import World

_START = datetime(2026, 6, 10, 8, tzinfo=UTC)
"""In the middle of a month: no budget's period ends on the way."""


@dataclass(frozen=True)
class Log:
    """What the emulator saw, in milliseconds of its own time."""

    calls: dict[str, list[int]]
    """When each call arrived, by operation."""
    told: dict[str, int]
    """When a query first said of a task, by id, that it had ended."""


@dataclass(frozen=True)
class Served(Account):
    """An account that is being served."""

    speed: float
    zero: float
    """The system's monotonic time when the emulator's clock showed its start."""
    process: subprocess.Popen[str]

    @property
    def environment(self) -> dict[str, str]:
        """What points a client to it; the vendor's SDK goes by the same names."""
        return {ADDRESS_VARIABLE: self.url, KEY_VARIABLE: KEY, "NO_PROXY": "127.0.0.1"}

    def clock(self, speed: float | None = None) -> dict[str, Any]:
        """Give a clock for a client: it shows the emulator's time now, and goes as fast, or as fast as is said."""
        zero = time.monotonic()
        shown = _START + timedelta(seconds=(zero - self.zero) * self.speed)
        return {"start": shown.isoformat(), "zero": zero, "speed": speed or self.speed}

    def log(self) -> Log:
        """Read the log."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("log\n")
        self.process.stdin.flush()
        return Log(**json.loads(self.process.stdout.readline()))


@contextmanager
def served(**settings: Any) -> Iterator[Served]:
    """Serve an account; without rendering and without limits on rates unless told otherwise."""
    usual = {"key": KEY, "speed": 100, "render": False, "submit_rate": 0, "query_rate": 0}
    asked = {**usual, **settings}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.account", json.dumps(asked)],
        cwd=Path(__file__).parents[2],
        env=os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        address = json.loads(process.stdout.readline())
        yield Served(**address, speed=asked["speed"], process=process)
        process.stdin.close()


def _serve(settings: dict[str, Any]) -> None:
    from wanbatch.emulator.config import EmulatorConfig  # noqa: PLC0415 - only this process serves
    from wanbatch.emulator.server import in_thread  # noqa: PLC0415

    if "media" in settings:
        settings["media"] = Path(settings["media"])
    zero = time.monotonic()
    with in_thread(EmulatorConfig(**settings, start=_START)) as emulator:
        log = _logged(emulator.world)
        print(json.dumps({"url": emulator.url, "origin": emulator.origin, "zero": zero}), flush=True)  # noqa: T201 - the pipe
        for _ in sys.stdin:
            print(json.dumps({"calls": log.calls, "told": log.told}), flush=True)  # noqa: T201 - the pipe


def _logged(world: World) -> Log:
    """Write down every call to a world, and each task's first telling."""
    from wanbatch.emulator.pace import Window  # noqa: PLC0415 - only this process serves

    log = Log({name: [] for name in world.windows}, {})

    class Logged(Window):
        def __init__(self, limit: int, moments: list[int]) -> None:
            super().__init__(limit)
            self._moments = moments

        def offer(self, now: int) -> None:
            self._moments.append(now)
            super().offer(now)

    for name, window in world.windows.items():
        world.windows[name] = Logged(window.limit, log.calls[name])
    query = world.state.query

    def logged_query(task_id: str) -> Task | None:
        task = query(task_id)
        if task is not None and task.ended is not None:
            log.told.setdefault(task_id, world.clock())
        return task

    world.state.query = logged_query  # type: ignore[method-assign]  # the emulator itself keeps no such log
    return log


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
