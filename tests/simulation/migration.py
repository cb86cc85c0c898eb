"""The story of one large migration: days of edits, a service that misbehaves daily, a machine that does not last."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tests.conftest import KEY, options
from tests.simulation.fast_time import FastClock
from tests.simulation.load import memory
from tests.simulation.service import Service, Span
from wanbatch import walk
from wanbatch.emulator.config import EmulatorConfig
from wanbatch.emulator.faults import parse_fault
from wanbatch.emulator.state import draw_run_ms
from wanbatch.errors import ExitCode, JournalError, NeverSent
from wanbatch.journal import Journal, State
from wanbatch.opening import open_session
from wanbatch.resolving import adopt_task, declare_not_created
from wanbatch.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wanbatch.session import Session

SLOTS = 5
AHEAD = 2
MEAN_RUN_S = 188.0
START = datetime(2026, 8, 1, 6, 0, tzinfo=UTC)
_EVERY_DAY = (
    "accept-then-drop:p=0.004",
    "accept-then-5xx:p=0.002",
    "accept-then-hang:p=0.001,seconds=90",
    "5xx:p=0.003",
    "drop-before-accept:p=0.002",
    "throttle-rate:p=0.01,retry_after=3",
    "fail:p=0.005",
    "5xx:on=query,p=0.01",
    "drop-before-accept:on=query,p=0.01",
    "5xx:on=list,p=0.005",
    "gateway-html:on=list,p=0.005",
    "throttle-rate:on=list,p=0.005",
    "result-break:p=0.02",
    "result-corrupt:p=0.01",
    "5xx:on=result,p=0.01",
)
_NO_LIST = ("list-absent", "accept-then-drop:every=40")
_DOWN_S = 150.0
"""A machine that lost its power is back after this: its lease has run out by then."""
_VISIT_H = 6.0
_OUTAGE_AT = 0.15


@dataclass(frozen=True, slots=True)
class Calendar:
    """What happens when, in hours from the beginning."""

    outage: Span
    """Nobody answers."""
    no_results: Span
    """The host of the finished videos is away."""
    no_list: Span
    """The service has no task list."""
    stops: tuple[float, ...]
    """The run is asked to end, and started again."""
    power_cuts: tuple[float, ...]
    """The run ends between two instructions, and is started again."""

    @classmethod
    def over(cls, hours: float) -> Calendar:
        """Spread all of it over a migration of about so many hours."""
        lost = min(max(1.0, 0.1 * hours), 6.0)

        def at(share: float) -> float:
            return share * hours + lost * (share > _OUTAGE_AT)

        outage = at(_OUTAGE_AT)
        return cls(
            outage=Span(outage, outage + lost),
            no_results=Span(at(0.25), at(0.25) + min(0.5, 0.05 * hours)),
            no_list=Span(at(0.5), at(0.5) + min(24.0, 0.25 * hours)),
            stops=(at(0.1), at(0.4)),
            power_cuts=(at(0.05), outage + 0.8 * lost, at(0.3), at(0.55), at(0.95)),
        )


@dataclass(slots=True)
class Diary:
    """What was seen on the way."""

    ended_at_h: float = 0.0
    starts: int = 0
    refused_starts: int = 0
    resolved: int = 0
    rss: list[tuple[float, int]] = field(default_factory=list)
    """Hour and bytes of memory."""


class Migration:
    """A manifest's whole way, with everybody who has a part in it."""

    def __init__(self, folder: Path, items: int) -> None:
        self.items = items
        self.clock = FastClock(START)
        self.calendar = Calendar.over(items * MEAN_RUN_S / SLOTS / 3600)
        self.config = EmulatorConfig(
            key=KEY, speed=0, start=START, slots=SLOTS, mean_run_s=MEAN_RUN_S, render=False
        )
        self.service = Service(
            self.config, self.clock, outage=self.calendar.outage, no_results=self.calendar.no_results
        )
        self.options = options(
            folder, write_rows(folder, items), poll_interval=5.0, submit_rate=None, query_rate=None
        )
        self.diary = Diary()
        self._session: Session | None = None
        self._process: asyncio.Task[ExitCode | None] | None = None

    async def run(self) -> None:
        """Start the run again and again until nothing is left to do."""
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(part) for part in (self._fate(), self._person(), self._observer())]
            while await self._once() is not ExitCode.OK:
                self._resolve()
                await asyncio.sleep(_DOWN_S)
            self.diary.ended_at_h = self._hour
            for other in others:
                other.cancel()

    def run_seconds(self) -> float:
        """Add up how long the account's edits ran; those that were to fail ended sooner."""
        created = next(self.service.world.state._submits)
        return sum(draw_run_ms(self.config, number) for number in range(created)) / 1000

    @property
    def _hour(self) -> float:
        return self.clock.monotonic() / 3600

    async def _once(self) -> ExitCode | None:
        """Be one process: from start to end, or until its power is cut."""
        self.diary.starts += 1
        self._process = asyncio.create_task(self._walk())
        with suppress(asyncio.CancelledError, JournalError):
            return await self._process
        return None

    async def _walk(self) -> ExitCode | None:
        try:
            async with open_session(self.options, clock=self.clock, transport=self.service) as session:
                self._session = session
                await walk.edit_videos(session, walk.Steps())
                return (await summarise(session)).exit_code
        except NeverSent:
            self.diary.refused_starts += 1
            return None
        finally:
            self._session = None

    # ---------------------------------------------------------------------------------- who has a part in it

    async def _fate(self) -> None:
        """Let happen what the calendar has."""
        calendar = self.calendar
        happenings: list[tuple[float, Callable[[], None]]] = [
            (0.0, lambda: self._faults(*_EVERY_DAY)),
            (calendar.no_list.begins, lambda: self._faults(*_EVERY_DAY, *_NO_LIST)),
            (calendar.no_list.ends, lambda: self._faults(*_EVERY_DAY)),
            *((hour, self._stop) for hour in calendar.stops),
            *((hour, self._cut_the_power) for hour in calendar.power_cuts),
        ]
        for hour, happen in sorted(happenings, key=lambda happening: happening[0]):
            await asyncio.sleep((hour - self._hour) * 3600)
            happen()

    def _faults(self, *rules: str) -> None:
        self.service.world.faults.replace(map(parse_fault, rules))

    def _stop(self) -> None:
        """Do what the first SIGTERM does."""
        if self._session:
            self._session.stop("SIGTERM came", ExitCode.INCOMPLETE, abandon=True)

    def _cut_the_power(self) -> None:
        """End the process so that nothing it would still write is written."""
        if self._session:
            self._session.journal.close()
            self._session.journal._engine = sa.create_engine("sqlite:////without/power/journal.db")
        if self._process:
            self._process.cancel()

    async def _person(self) -> None:
        """Look in now and then: what is parked is looked up in the provider's console, and the run started again."""
        while True:
            await asyncio.sleep(_VISIT_H * 3600)
            with self._journal() as journal:
                parked = journal.open_attempts(State.PARKED)
            if parked:
                self._stop()

    def _resolve(self) -> None:
        """Say of every parked attempt what became of it."""
        self.service.catch_up()
        tasks = self.service.world.state.tasks()
        with self._journal() as journal:
            known = journal.known_tasks([task.task_id for task in tasks])
            made = {task.edit.prompt: task.task_id for task in tasks if task.task_id not in known}
            for attempt in journal.open_attempts(State.PARKED):
                if task_id := made.get(attempt.item.request.prompt or ""):
                    adopt_task(journal, attempt, task_id, who="a person")
                else:
                    declare_not_created(journal, Path(self.options.ledger), attempt, who="a person")
                self.diary.resolved += 1

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        journal = Journal.open(self.options.journal_url, clock=self.clock)
        try:
            yield journal
        finally:
            journal.close()

    async def _observer(self) -> None:
        """Write the memory into the diary."""
        while True:
            self.diary.rss.append((self._hour, memory()))
            await asyncio.sleep(600)


def write_rows(folder: Path, items: int) -> Path:
    """Write a manifest of so many edits, of videos of a few lengths: the account makes a clip of each length."""
    lines = [
        f"clip-{number:05},https://media.example.com/{number}.mp4?seconds={2 + number % 8}.{number % 4}0,"
        f"make it look like clay {number},{'720P' if number % 3 else '1080P'}"
        for number in range(items)
    ]
    manifest = folder / "migration.csv"
    manifest.write_text("\n".join(["id,video,prompt,resolution", *lines]) + "\n", encoding="utf-8")
    return manifest
