"""The account as a simulation of events: no HTTP, no asyncio, the clock injected.

Nothing happens between calls: every public method first replays what came due since the last one, each
event at its own moment, so that the story is the same however seldom anybody looks.
"""

import heapq
import itertools
import math
import random
import threading
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from wanbatch.emulator.bill import Bill, Charge, Usage
from wanbatch.emulator.catalogue import Failure, failure, refusal
from wanbatch.emulator.config import EmulatorConfig
from wanbatch.emulator.task import DAY_MS, Edit, Fate, Outcome, Started, Status, Task

TIMEOUT_MS: Final = 3 * 3600 * 1000
"""An asynchronous task without a result in three hours fails with InternalError.Timeout."""


@dataclass(order=True, slots=True)
class _Event:
    at: int
    number: int
    task_id: str = field(compare=False)
    act: Callable[[Task, int], None] = field(compare=False)


Foretell = Callable[[Edit], Outcome | None]
"""Gives an edit's outcome as soon as it starts, or None when somebody must work for it."""


class State:
    """One account's tasks, slots and bill. Every public method may be called from any thread."""

    def __init__(self, config: EmulatorConfig, clock: Callable[[], int], foretell: Foretell) -> None:
        self.config = config
        self._clock = clock
        self._foretell = foretell
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Forget every task and the bill; the clock runs on."""
        with self._lock:
            self._bill = Bill(self.config)
            self.running_peak = 0
            self._tasks: dict[str, Task] = {}
            self._queue: deque[str] = deque()
            self._events: list[_Event] = []
            self._numbers = itertools.count()
            self._running = 0
            self._started: list[Started] = []
            self._expired: list[str] = []
            self._now = self._clock()
            self._submits = itertools.count()

    @property
    def bill(self) -> Bill:
        """What the account owes by now."""
        with self._lock:
            self._advance()
            return self._bill

    def now(self) -> int:
        """Give the emulator's time after replaying what came due."""
        with self._lock:
            return self._advance()

    def submit(
        self,
        edit: Edit,
        *,
        request_id: str,
        who: str = "client",
        host: str = "",
        fate: Fate | None = None,
        outcome: Outcome | None = None,
    ) -> Task:
        """Accept an edit, to run at once or to wait. Raises Refusal when full and not queueing."""
        with self._lock:
            now = self._advance()
            busy = self._running + len(self._queue)
            if self.config.overflow == "reject" and busy >= self.config.slots:
                raise refusal("Throttling")
            task = Task(
                task_id=new_id(),
                request_id=request_id,
                edit=edit,
                who=who,
                submitted=now,
                run_ms=draw_run_ms(self.config, next(self._submits)),
                fate=fate or Fate(),
                host=host,
                outcome=outcome,
            )
            self._tasks[task.task_id] = task
            self._admit(task)
            return task

    def query(self, task_id: str) -> Task | None:
        """Give the task, or None when it is not, or no longer, there."""
        with self._lock:
            now = self._advance()
            task = self._tasks.get(task_id)
            return None if task is None or task.hidden(now) else task

    def find(self, task_id: str) -> Task | None:
        """Give the task even if a fault hides it: its result file is still there."""
        with self._lock:
            self._advance()
            return self._tasks.get(task_id)

    def cancel(self, task_id: str) -> bool:
        """Take a PENDING task out of the queue; anything else cannot be cancelled."""
        with self._lock:
            now = self._advance()
            task = self._tasks.get(task_id)
            if task is None or task.hidden(now) or task.status is not Status.PENDING:
                return False
            if task.fate.stuck is not Status.PENDING:
                self._queue.remove(task_id)
            self._end(task, now, Status.CANCELED)
            return True

    def tasks(self, since: int = 0) -> list[Task]:
        """Give the tasks still kept that were submitted at `since` (milliseconds) or later, newest first."""
        with self._lock:
            now = self._advance()
            recent = itertools.takewhile(lambda task: task.submitted >= since, reversed(self._tasks.values()))
            return [task for task in recent if not task.hidden(now)]

    def strange(self, count: int, edit: Edit, usage: Usage) -> list[str]:
        """Create tasks of another client of the same account; gives their ids."""
        return [
            self.submit(edit, request_id=new_id(), who="stranger", outcome=usage).task_id
            for _ in range(count)
        ]

    def take_started(self) -> list[Started]:
        """Give, once, the tasks that began to run and whose outcome somebody must work for."""
        with self._lock:
            self._advance()
            started, self._started = self._started, []
            return started

    def take_expired(self) -> list[str]:
        """Give, once, the ids of tasks whose time is up: their result files can go."""
        with self._lock:
            expired, self._expired = self._expired, []
            return expired

    def deliver(self, task_id: str, outcome: Outcome) -> bool:
        """Hand in what became of a started task; it ends once its drawn time has passed as well.

        False when the task was no longer waiting for it.
        """
        with self._lock:
            now = self._advance()
            task = self._tasks.get(task_id)
            if task is None or task.status is not Status.RUNNING:
                return False
            task.outcome = outcome
            self._at(max(now, _due(task)), task, self._finish)
            self._advance()
            return True

    def running(self) -> int:
        """Give how many edits run now."""
        with self._lock:
            self._advance()
            return self._running

    def _advance(self) -> int:
        now = max(self._now, self._clock())
        while self._events and self._events[0].at <= now:
            event = heapq.heappop(self._events)
            self._now = event.at
            if (task := self._tasks.get(event.task_id)) is not None:
                event.act(task, event.at)
        self._now = now
        return now

    def _at(self, at: int, task: Task, act: Callable[[Task, int], None]) -> None:
        heapq.heappush(self._events, _Event(at, next(self._numbers), task.task_id, act))

    def _admit(self, task: Task) -> None:
        if task.fate.stuck is None:
            self._at(task.submitted + TIMEOUT_MS, task, self._time_out)
        if self.config.retention == "submit" or task.fate.stuck is not None:
            self._at(task.submitted + DAY_MS, task, self._expire)
        if task.fate.stuck is not Status.PENDING:
            self._queue.append(task.task_id)
            self._fill_slots(task.submitted)

    def _fill_slots(self, at: int) -> None:
        while self._queue and self._running < self.config.slots:
            self._start(self._tasks[self._queue.popleft()], at)

    def _start(self, task: Task, at: int) -> None:
        task.status, task.scheduled = Status.RUNNING, at
        self._running += 1
        self.running_peak = max(self.running_peak, self._running)
        if task.fate.stuck is not None:
            return
        task.outcome = task.fate.failure or task.outcome or self._foretell(task.edit)
        if task.outcome is None:
            self._started.append(Started(task.task_id, task.edit, task.host))
        else:
            self._at(_due(task), task, self._finish)

    def _finish(self, task: Task, at: int) -> None:
        if task.status is not Status.RUNNING:
            return
        if isinstance(task.outcome, Usage):
            self._bill.add(_charge(task, task.outcome, at))
            self._end(task, at, Status.SUCCEEDED)
        else:
            self._end(task, at, Status.FAILED)

    def _time_out(self, task: Task, at: int) -> None:
        if task.ended is None:
            if task.status is Status.PENDING:
                self._queue.remove(task.task_id)
            task.outcome = failure("InternalError.Timeout")
            self._end(task, at, Status.FAILED)

    def _end(self, task: Task, at: int, status: Status) -> None:
        was_running = task.status is Status.RUNNING
        task.status, task.ended, task.edit = status, at, _slim(task.edit)
        if self.config.retention == "end":
            self._at(at + DAY_MS, task, self._expire)
        if was_running:
            self._running -= 1
            self._fill_slots(at)

    def _expire(self, task: Task, at: int) -> None:
        del self._tasks[task.task_id]
        self._expired.append(task.task_id)
        if task.status is Status.RUNNING:
            self._running -= 1
            self._fill_slots(at)
        elif task.status is Status.PENDING and task.fate.stuck is None:
            self._queue.remove(task.task_id)


def new_id() -> str:
    """Give a fresh UUID; never seeded, for the ids of two emulators must not meet in one client's books."""
    return str(uuid.uuid4())


def draw_run_ms(config: EmulatorConfig, number: int) -> int:
    """Draw how long the account's nth edit runs: log-normal around the mean, within the bounds."""
    spread = 0.35
    draw = random.Random(f"{config.seed}:run:{number}")  # noqa: S311  reproducible, not secret
    seconds = draw.lognormvariate(math.log(config.mean_run_s) - spread**2 / 2, spread)
    return round(1000 * min(max(seconds, config.min_run_s), config.max_run_s))


def _due(task: Task) -> int:
    """Give the earliest end of a running task; a failure shows after a tenth of the run time."""
    scheduled = task.scheduled or task.submitted
    return scheduled + (task.run_ms // 10 if isinstance(task.outcome, Failure) else task.run_ms)


def _slim(edit: Edit) -> Edit:
    """Let go of inputs that came inside the request; addresses stay."""
    if not any(url.startswith("data:") for url in edit.references):
        return edit
    return replace(
        edit, references=tuple(url[:40] if url.startswith("data:") else url for url in edit.references)
    )


def _charge(task: Task, usage: Usage, at: int) -> Charge:
    return Charge(
        task_id=task.task_id,
        request_id=task.request_id,
        who=task.who,
        model=task.edit.model,
        submitted=task.submitted,
        ended=at,
        resolution=task.edit.resolution,
        usage=usage,
    )
