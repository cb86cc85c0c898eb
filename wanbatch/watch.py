"""One watcher per service does all the polling.

The task list shows every edit that is running in one request; an edit of ours that has left it is asked about
once. Where there is no list, or not all of it, edits are asked about one by one, when they are likely to end.
A bad answer never ends a wait.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from wanbatch import telemetry
from wanbatch.catalogue import Throttle, Verdict, rule
from wanbatch.errors import AccountStopped, BadAnswer, NeverSent, Refused, WanbatchError
from wanbatch.models import TaskReport, TaskStatus
from wanbatch.pace import POLL_INTERVAL_S, delay
from wanbatch.redact import scrub

if TYPE_CHECKING:
    from wanbatch.client import WanClient
    from wanbatch.pace import Clock
    from wanbatch.schedule import PollSchedule
    from wanbatch.window import Window

_log = logging.getLogger(__name__)

TASK_LIFE = timedelta(hours=24)
"""How long a task and its result can be had; counted from the submit, the earlier of the two readings."""
UNKNOWN_PATIENCE = timedelta(minutes=10)
"""How long a task may be UNKNOWN before we stop waiting for it in this run."""
_PENDING_EVERY = 10
"""While all slots run, the list of waiting edits is asked for in every tenth cycle: only what never ran leaves it."""
_ASK_ANYWAY_AFTER = 60
"""An edit is asked about by itself after so many cycles, whatever the lists say."""
_LIST_AGAIN_AFTER_S = 300.0
"""A list that was refused is tried again after so long."""
_LIST_S = 60.0
"""How long all pages of the list may take."""
_AT_ONCE = 8
"""Questions on their way at once."""
_SHARE = 0.5
"""Questions of the schedule take up at most so much of the query rate; what has ended must get through, too."""


@dataclass(slots=True)
class _Watched:
    task_id: str
    submitted_at: datetime
    asked_at: float
    """When it was last asked about, or sent; this and `ask_at` by the monotonic clock."""
    ended: asyncio.Future[TaskReport] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    running_since: datetime | None = None
    ask_at: float = 0.0
    """When to ask about it where there is no list."""
    unknown_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    """What the lists showed: those of ours that are surely still there, and whether that is all there are."""

    there: frozenset[str]
    complete: bool


class Watcher:
    """Waits for provider tasks on behalf of everybody."""

    def __init__(
        self, client: WanClient, clock: Clock, *, window: Window, schedule: PollSchedule, interval_s: float
    ) -> None:
        self._client = client
        self._clock = clock
        self._window = window
        self._schedule = schedule
        self._interval_s = interval_s
        self._watched: dict[str, _Watched] = {}
        self._more = asyncio.Event()
        self._abandoned: WanbatchError | None = None
        self._questions: dict[str, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._cycle = 0
        self._bad = 0
        self._list_from = 0.0
        self.running = 0
        """Edits of this run that run, as we last saw it."""
        self.others = 0
        """Edits that run on this account and are not of this run, as the list last showed it."""
        self.trouble: str | None = None
        """What is wrong with the service right now, in one line."""

    async def wait(self, task_id: str, submitted_at: datetime, *, ask_first: bool = False) -> TaskReport:
        """Wait until the task has ended; UNKNOWN when it can't be seen any more.

        `ask_first`: it has probably ended already.

        Raises what `abandon` was given, `AccountStopped` when the account is refused.
        """
        if self._abandoned:
            raise self._abandoned
        watched = self._watched[task_id] = _Watched(task_id, submitted_at, self._clock.monotonic())
        if ask_first:
            watched.running_since = submitted_at
        else:
            self._ask_after(watched, self._schedule.waiting_gap_s())
        self._more.set()
        try:
            return await watched.ended
        finally:
            self._watched.pop(task_id, None)

    def abandon(self, reason: WanbatchError) -> None:
        """End every wait, now and later."""
        self._abandoned = reason
        for watched in self._watched.values():
            if not watched.ended.done():
                watched.ended.set_exception(reason)

    async def run(self) -> None:
        """Poll for as long as there is something to wait for; runs until cancelled."""
        took = 0.0
        try:
            while True:
                self._more.clear()
                if not self._watched:
                    await self._more.wait()
                await self._clock.sleep(max(self._cycle_s() - took, 0.0))
                started = self._clock.monotonic()
                await self._poll()
                took = self._clock.monotonic() - started
        finally:
            for question in self._questions.values():
                question.cancel()

    def _cycle_s(self) -> float:
        """Say how often to look: a service that queues nothing idles from each end until we notice it."""
        if not self._lists:
            return self._interval_s / 4  # asks only about those whose time has come
        return self._interval_s / 2 if self._window.refuses else self._interval_s

    @property
    def _lists(self) -> bool:
        return self._clock.monotonic() >= self._list_from

    async def _poll(self) -> None:
        try:
            await self._poll_once()
        except (NeverSent, BadAnswer) as error:
            self._note(str(error))
        except Refused as error:
            ruling = rule(error.http_status, error.code, error.message)
            if ruling.verdict is Verdict.STOP_RUN:
                self.abandon(account_stopped(error))
                return
            self._note(str(error))
            self._slow_down(ruling.throttle, error.retry_after_s)
        else:
            self._bad, self.trouble = 0, None
            return
        await self._clock.sleep(delay(self._bad, base_s=self._interval_s, wait_max_s=60.0))

    def _note(self, words: str) -> None:
        self._bad += 1
        self.trouble = words
        _log.warning("polling: %s", words)

    def _slow_down(self, throttle: Throttle | None, retry_after_s: float | None) -> None:
        if throttle is None and retry_after_s is None:
            return
        seconds = delay(self._bad, retry_after_s=retry_after_s, wait_max_s=60.0)
        for rate in (self._client.queries, self._client.lists):
            rate.slow_down(throttle.slower if throttle else 1.0, after_s=seconds)

    @telemetry.of_poll
    async def _poll_once(self) -> None:
        self._cycle += 1
        everybody = list(self._watched.values())
        worth = self._worth_asking(everybody, await self._look(everybody))
        for watched in worth:
            if watched.task_id not in self._questions:
                self._questions[watched.task_id] = asyncio.create_task(self._ask(watched))
        troubles = await self._answers()
        self._tell_window()
        for trouble in sorted(troubles, key=lambda trouble: isinstance(trouble, BadAnswer)):
            raise trouble

    async def _ask(self, watched: _Watched) -> None:
        async with self._at_once:
            if not watched.ended.done():
                watched.asked_at = self._clock.monotonic()
                self._take(watched, await self._client.query(watched.task_id))

    async def _answers(self) -> list[BaseException]:
        """Wait for the answers, but not for one that is late: nobody else is to wait for it. Gives what went wrong."""
        if self._questions:
            await asyncio.wait(self._questions.values(), timeout=self._interval_s)
        answered = [task_id for task_id, question in self._questions.items() if question.done()]
        errors = [self._questions.pop(task_id).exception() for task_id in answered]
        return [error for error in errors if error]

    def _worth_asking(self, everybody: list[_Watched], look: _Look | None) -> list[_Watched]:
        """Say which edits are worth a question."""
        now = self._clock.monotonic()
        if look and look.complete:
            long_ago = now - _ASK_ANYWAY_AFTER * self._interval_s
            return [w for w in everybody if w.task_id not in look.there or w.asked_at < long_ago]
        return [
            watched
            for watched in everybody
            if (look is None or watched.task_id not in look.there) and watched.ask_at <= now
        ]

    def _take(self, watched: _Watched, report: TaskReport) -> None:
        """Deliver a report that ends a wait."""
        now = self._client.clock.now()
        if report.status is TaskStatus.UNKNOWN:
            watched.unknown_since = watched.unknown_since or now
            self._ask_after(watched, self._schedule.waiting_gap_s())
            patience_ended = now - watched.unknown_since > UNKNOWN_PATIENCE
            if not patience_ended and now - watched.submitted_at < TASK_LIFE:
                return
        elif not report.status.ended:
            watched.unknown_since = None
            self._ask_later(watched, report, now)
            return
        elif report.scheduled_at and report.ended_at:
            self._schedule.learn((report.ended_at - report.scheduled_at).total_seconds())
        if not watched.ended.done():
            watched.ended.set_result(report)

    def _ask_later(self, watched: _Watched, report: TaskReport, now: datetime) -> None:
        gap_s = self._schedule.waiting_gap_s()
        if report.status is TaskStatus.RUNNING:
            watched.running_since = report.scheduled_at or watched.running_since or now
            gap_s = self._schedule.gap_s((now - watched.running_since).total_seconds())
        self._ask_after(watched, gap_s)

    def _ask_after(self, watched: _Watched, seconds: float) -> None:
        """Put the next question off: in proportion to how often looks are asked for, and by what all may ask."""
        paced = self._interval_s / POLL_INTERVAL_S
        wanted = len(self._watched) * self._schedule.rate_per_edit / paced
        crowded = wanted * self._client.queries.interval_s / _SHARE
        watched.ask_at = self._clock.monotonic() + seconds * paced * max(1.0, crowded)

    async def _look(self, everybody: list[_Watched]) -> _Look | None:
        """Look at the lists; None when every edit is to be asked about by itself."""
        if not self._lists:
            return None
        waiting = [w for w in everybody if w.running_since is None]
        idle = self.running + self.others < self._window.slots  # and yet some wait: or have they run already?
        with_pending = bool(waiting) and (idle or self._cycle % _PENDING_EVERY == 0)
        try:
            async with asyncio.timeout(_LIST_S):
                # In this order: a task that starts between the two is then seen in both, never in neither.
                pending, all_pending = (
                    await self._listed(TaskStatus.PENDING) if with_pending else (set(), True)
                )
                running, all_running = await self._listed(TaskStatus.RUNNING)
        except TimeoutError:
            raise BadAnswer(f"the task list took more than {_LIST_S:.0f} s") from None
        except Refused as error:
            if not list_denied(error):
                raise
            _log.info("the task list can't be had (%s): every edit is asked about by itself", error)
            self._list_from = self._clock.monotonic() + _LIST_AGAIN_AFTER_S
            return None
        for task_id in running & self._watched.keys():
            watched = self._watched[task_id]
            watched.running_since = watched.running_since or self._client.clock.now()
        self.others = len(running - self._watched.keys())
        unseen = set() if with_pending else {w.task_id for w in waiting if w.running_since is None}
        return _Look(frozenset(running | pending | unseen), complete=all_pending and all_running)

    async def _listed(self, status: TaskStatus) -> tuple[set[str], bool]:
        listing = await self._client.tasks(status=status)
        # A service that ignores the filter must not make an ended edit look like a running one.
        return {task.task_id for task in listing.tasks if task.status is status}, listing.complete

    def _tell_window(self) -> None:
        seen = [w for w in self._watched.values() if not w.ended.done() and w.unknown_since is None]
        waiting = [w.submitted_at for w in seen if w.running_since is None]
        now = self._client.clock.now()
        waits = now - min(waiting) if waiting else timedelta(0)
        self.running = len(seen) - len(waiting)
        self._window.seen(running=self.running, pending=len(waiting), waits=waits)


def list_denied(error: Refused) -> bool:
    """Say whether a refusal of the list is about the list: some accounts and regions do not have it."""
    verdict = rule(error.http_status, error.code, error.message).verdict
    if error.http_status in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
        return True
    return verdict not in {Verdict.STOP_RUN, Verdict.THROTTLED, Verdict.TRANSIENT}


def account_stopped(error: Refused) -> AccountStopped:
    """Make the error that ends the run of one that would meet every request; it says what to do about it."""
    mend = rule(error.http_status, error.code, error.message).mend
    return AccountStopped(
        http_status=error.http_status,
        code=error.code,
        message=f"{scrub(error.message).rstrip('. ')}; {mend}",
        request_id=error.request_id,
    )
