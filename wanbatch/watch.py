"""One watcher per service does all the polling.

The task list shows every edit that is running in one request; an edit of ours that has left it is asked about
once. Where there is no list, every edit is asked about by itself. A bad answer never ends a wait.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from wanbatch.catalogue import Verdict, rule
from wanbatch.errors import AccountStopped, BadAnswer, NeverSent, Refused, WanbatchError
from wanbatch.models import TaskReport, TaskStatus
from wanbatch.pace import delay
from wanbatch.redact import scrub

if TYPE_CHECKING:
    from wanbatch.client import WanClient
    from wanbatch.pace import Clock

_log = logging.getLogger(__name__)

TASK_LIFE = timedelta(hours=24)
"""How long a task and its result can be had; counted from the submit, the earlier of the two readings."""
UNKNOWN_PATIENCE = timedelta(minutes=10)
"""How long a task may be UNKNOWN before we stop waiting for it in this run."""
_PENDING_EVERY = 3
"""The list of waiting edits is asked for in every third cycle: only an edit that never ran can leave it."""
_ASK_ALL_EVERY = 60
"""Now and then every edit is asked about by itself, whatever the lists say."""
_LIST_AGAIN_AFTER = 20
"""A list that was refused is tried again after so many cycles."""


@dataclass(slots=True)
class _Watched:
    submitted_at: datetime
    ended: asyncio.Future[TaskReport] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    running: bool = False
    unknown_since: datetime | None = None


class Watcher:
    """Waits for provider tasks on behalf of everybody."""

    def __init__(self, client: WanClient, clock: Clock, *, interval_s: float) -> None:
        self._client = client
        self._clock = clock
        self._interval_s = interval_s
        self._watched: dict[str, _Watched] = {}
        self._more = asyncio.Event()
        self._abandoned: WanbatchError | None = None
        self._cycle = 0
        self._bad = 0
        self._list_from_cycle = 0
        self.trouble: str | None = None
        """What is wrong with the service right now, in one line."""

    async def wait(self, task_id: str, submitted_at: datetime, *, ask_first: bool = False) -> TaskReport:
        """Wait until the task has ended; UNKNOWN when it can't be seen any more.

        `ask_first`: it has probably ended already.

        Raises what `abandon` was given, `AccountStopped` when the account is refused.
        """
        if self._abandoned:
            raise self._abandoned
        watched = self._watched[task_id] = _Watched(submitted_at, running=ask_first)
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
        while True:
            self._more.clear()
            if not self._watched:
                await self._more.wait()
            await self._clock.sleep(self._interval_s)
            await self._poll()

    async def _poll(self) -> None:
        try:
            await self._poll_once()
        except (NeverSent, BadAnswer) as error:
            self._note(str(error))
        except Refused as error:
            if rule(error.http_status, error.code, error.message).verdict is Verdict.STOP_RUN:
                self.abandon(account_stopped(error))
                return
            self._note(str(error), retry_after_s=error.retry_after_s)
        else:
            self._bad, self.trouble = 0, None
            return
        await self._clock.sleep(delay(self._bad, base_s=self._interval_s, wait_max_s=60.0))

    def _note(self, words: str, *, retry_after_s: float | None = None) -> None:
        self._bad += 1
        self.trouble = words
        _log.warning("polling: %s", words)
        if retry_after_s:
            self._client.queries.back_off(min(retry_after_s, 60.0))

    async def _poll_once(self) -> None:
        trouble: BadAnswer | Refused | None = None
        for task_id in await self._left_the_list():
            watched = self._watched.get(task_id)
            if watched is None or watched.ended.done():
                continue
            try:
                self._take(watched, await self._client.query(task_id))
            except BadAnswer as error:
                trouble = error  # the next edit may have better luck
        if trouble:
            raise trouble

    def _take(self, watched: _Watched, report: TaskReport) -> None:
        """Deliver a report that ends a wait."""
        now = self._client.clock.now()
        if report.status is TaskStatus.UNKNOWN:
            watched.unknown_since = watched.unknown_since or now
            patience_ended = now - watched.unknown_since > UNKNOWN_PATIENCE
            if not patience_ended and now - watched.submitted_at < TASK_LIFE:
                return
        elif not report.status.ended:
            watched.running = report.status is TaskStatus.RUNNING
            watched.unknown_since = None
            return
        if not watched.ended.done():
            watched.ended.set_result(report)

    async def _left_the_list(self) -> list[str]:
        """Say which of the watched tasks are worth a question."""
        self._cycle += 1
        everybody = list(self._watched)
        if self._cycle < self._list_from_cycle or self._cycle % _ASK_ALL_EVERY == 0:
            return everybody
        with_pending = self._cycle % _PENDING_EVERY == 0 or all(w.running for w in self._watched.values())
        try:
            # In this order: a task that starts between the two lists is then seen in both, never in neither.
            pending = await self._listed(TaskStatus.PENDING) if with_pending else set()
            running = await self._listed(TaskStatus.RUNNING)
        except Refused as error:
            if not list_denied(error):
                raise
            _log.info("the task list can't be had (%s): every edit is asked about by itself", error)
            self._list_from_cycle = self._cycle + _LIST_AGAIN_AFTER
            return everybody
        for task_id in running & self._watched.keys():
            self._watched[task_id].running = True
        return [
            task_id
            for task_id in everybody
            if task_id not in running | pending
            and (with_pending or (task_id in self._watched and self._watched[task_id].running))
        ]

    async def _listed(self, status: TaskStatus) -> set[str]:
        # A service that ignores the filter must not make an ended edit look like a running one.
        return {
            task.task_id for task in (await self._client.tasks(status=status)).tasks if task.status is status
        }


def list_denied(error: Refused) -> bool:
    """Say whether a refusal of the list is about the list: some accounts and regions do not have it."""
    verdict = rule(error.http_status, error.code, error.message).verdict
    if error.http_status in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
        return True
    return verdict not in {Verdict.STOP_RUN, Verdict.THROTTLED, Verdict.TRANSIENT}


def account_stopped(error: Refused) -> AccountStopped:
    """Make the error that ends the run of one that would meet every request."""
    return AccountStopped(
        http_status=error.http_status,
        code=error.code,
        message=scrub(error.message),
        request_id=error.request_id,
    )
