"""Days in seconds: a loop whose time jumps to the next thing that is due, and the clock that goes with it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import looptime
import pytest

from wanbatch import buckets

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor
    from datetime import datetime


class FastLoop(looptime.LoopTimeEventLoop, asyncio.SelectorEventLoop):
    """Time stands still while anything works, and jumps when everybody waits.

    What is meant for a thread is done in a turn of the loop instead: time would run away from a working thread.
    """

    def run_in_executor(  # type: ignore[override]  # the base class has it of many signatures
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Do it soon, as a free thread would."""
        del executor
        done: asyncio.Future[Any] = self.create_future()
        self.call_soon(_work, done, partial(func, *args))
        return done


def _work(done: asyncio.Future[Any], work: Callable[[], Any]) -> None:
    if done.cancelled():
        return
    try:
        done.set_result(work())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is for whoever waits
        done.set_exception(error)


class FastClock:
    """The running loop's time as the run's `Clock`; it reads `start` when the loop reads 0."""

    def __init__(self, start: datetime) -> None:
        self.start = start

    def now(self) -> datetime:
        """Tell the time, in UTC."""
        return self.start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Count seconds that never go back."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def fast(story: Coroutine[Any, Any, None]) -> None:
    """Run a story from its beginning, at 0 of the loop's time, to its end."""
    with (
        pytest.MonkeyPatch.context() as patch,
        asyncio.Runner(loop_factory=partial(FastLoop, noop_cycles=0)) as runner,
    ):
        patch.setattr(
            buckets, "_in_thread", lambda work: work()
        )  # again: no thread, from which time runs away
        runner.run(story)
