"""Finds out what became of submits that got no answer, through the provider's task list.

A provider task is adopted when it is certainly ours (see `wanbatch.matching`); its absence is proved when a
complete list, taken a while after the submit can last have arrived, has no task that could be ours. Everything
else is parked.
https://www.alibabacloud.com/help/en/model-studio/manage-asynchronous-tasks
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from wanbatch.errors import BadAnswer, ClaimLost, NeverSent, NotCreated, Parked, Refused, WanbatchError
from wanbatch.matching import Candidate, Doubt, match
from wanbatch.watch import TASK_LIFE, list_denied

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Any

    from wanbatch.client import Listing, WanClient
    from wanbatch.journal import Attempt, Journal
    from wanbatch.models import ListedTask, TaskReport
    from wanbatch.pace import Clock

_log = logging.getLogger(__name__)

GRACE = timedelta(seconds=120)
"""How long after a submit a task of its may still turn up in the list; by the service's clock."""
_SUBMIT_LIMIT = timedelta(seconds=60)
_SKEW = timedelta(minutes=5)
"""How far the clock of the service's gateway, which we see, may be from the one that stamps its tasks."""
_DECIDED_WITHIN = timedelta(hours=4)
"""A task ends within three hours; a doubt that is older is not going to be decided by waiting."""
_LIST_MARGIN = timedelta(hours=1)
"""The list shows 24 hours; a submit nearer to its end than this can't be proved absent any more."""
_DENIALS = 3
"""So many refusals of the list in a row mean that there is none; one may be a gateway's mood."""
_PATIENCE_S = 900.0
"""How long the list may fail before the doubts are parked."""


@dataclass(slots=True)
class _Waiting:
    attempt: Attempt
    settled: asyncio.Future[Attempt] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    first_listed: datetime | None = None


class Reconciler:
    """Settles doubts on behalf of everybody, all of them together."""

    def __init__(
        self,
        client: WanClient,
        journal: Journal,
        clock: Clock,
        *,
        durably: Callable[..., Any],
        interval_s: float,
    ) -> None:
        self._client = client
        self._journal = journal
        self._clock = clock
        self._durably = durably
        self._interval_s = interval_s
        self._waiting: dict[tuple[str, int], _Waiting] = {}
        self._ended: dict[str, TaskReport] = {}
        self._more = asyncio.Event()
        self._abandoned: WanbatchError | None = None
        self._failing_since: float | None = None
        self._denials = 0

    @property
    def doubts(self) -> int:
        """How many attempts are in doubt right now."""
        return len(self._waiting)

    async def settle(self, attempt: Attempt) -> Attempt:
        """Wait until it is known what became of an attempt: the same attempt, accepted.

        Raises `NotCreated` when it is proved that nothing was made, `Parked` when it can't be found out.
        """
        if self._abandoned:
            raise self._abandoned
        if not self._waiting:  # it is not to suffer for what the list did to an earlier one
            self._failing_since, self._denials = None, 0
        name = (attempt.key, attempt.number)
        waiting = self._waiting[name] = _Waiting(attempt)
        self._more.set()
        try:
            return await waiting.settled
        finally:
            self._waiting.pop(name, None)

    def abandon(self, reason: WanbatchError) -> None:
        """End every wait, now and later; the doubts stay open in the journal."""
        self._abandoned = reason
        for waiting in self._waiting.values():
            if not waiting.settled.done():
                waiting.settled.set_exception(reason)

    async def run(self) -> None:
        """Look through the list for as long as there is a doubt; runs until cancelled."""
        while True:
            self._more.clear()
            if not self._waiting:
                await self._more.wait()
            try:
                await self._look()
            except (
                WanbatchError
            ) as error:  # the journal itself: nobody may wait for an answer that can't come
                self.abandon(error)
            await self._clock.sleep(self._interval_s)

    async def _look(self) -> None:
        waiting = list(self._waiting.values())
        try:
            listing = await self._client.tasks()
            on_the_way, unanswered = await self._durably(self._journal.unanswered, self._client.service.name)
            self._give_up_lost_claims(waiting, unanswered)
            candidates = await self._candidates(listing, unanswered)
        except Refused as error:
            self._denials = self._denials + 1 if list_denied(error) else 0
            if self._denials >= _DENIALS:
                await self._park_all(f"the task list can't be had ({error})")
            else:
                await self._failing(str(error))
        except (NeverSent, BadAnswer) as error:
            await self._failing(str(error))
        else:
            self._failing_since, self._denials = None, 0
            if not on_the_way:  # it could own any task of the list
                await self._decide(listing, unanswered, candidates)

    def _give_up_lost_claims(self, asked: list[_Waiting], unanswered: list[Attempt]) -> None:
        """End the waits for attempts that another run, or a person, has taken up."""
        ours = {(attempt.key, attempt.number, attempt.run_id) for attempt in unanswered}
        for waiting in asked:
            attempt = waiting.attempt
            if (attempt.key, attempt.number, attempt.run_id) not in ours:
                self._end(
                    waiting, ClaimLost(f"{attempt.item.name}: another run, or a person, has taken it up")
                )

    async def _failing(self, words: str) -> None:
        _log.warning("reconciling: %s", words)
        now = self._clock.monotonic()
        self._failing_since = self._failing_since or now
        if now - self._failing_since > _PATIENCE_S:
            await self._park_all(f"the task list failed for {_PATIENCE_S / 60:.0f} minutes ({words})")

    async def _candidates(self, listing: Listing, unanswered: list[Attempt]) -> list[Candidate]:
        """Fetch the tasks that may belong to a doubt."""
        strangers = {task.task_id: task for task in listing.tasks}
        known = await self._durably(self._journal.known_tasks, list(strangers))
        keys = {task.api_key_id for task in listing.tasks if task.task_id in known and task.api_key_id}
        doubts = self._doubts(unanswered)
        return [
            Candidate(
                task=task,
                report=await self._report(task),
                foreign=bool(keys) and task.api_key_id is not None and task.api_key_id not in keys,
            )
            for task_id, task in strangers.items()
            if task_id not in known and any(_in_window(doubt, task) for doubt in doubts)
        ]

    async def _report(self, task: ListedTask) -> TaskReport:
        if task.task_id not in self._ended:
            report = await self._client.query(task.task_id)
            if not report.status.ended:
                return report
            self._ended[task.task_id] = report
        return self._ended[task.task_id]

    def _doubts(self, unanswered: list[Attempt]) -> list[Doubt]:
        """Say when each attempt can have made its task: those waited for here, and all others that may own one."""
        now = self._client.clock.now()
        skew = now - self._clock.now()
        found = []
        for attempt in unanswered:
            if waiting := self._waiting.get((attempt.key, attempt.number)):
                waiting.first_listed = waiting.first_listed or now
            # Two readings of when it left, by this machine's clock and by the service's: the window holds both,
            # since too wide a window parks an attempt, and too narrow a one pays for it twice.
            sent = (attempt.sent_at or attempt.intended_at) + skew
            earliest = (attempt.service_time or sent) - _SKEW
            latest = min(now, max(sent, attempt.service_sent_at or sent, earliest) + _SUBMIT_LIMIT + GRACE)
            found.append(Doubt(attempt=attempt, earliest=earliest, latest=latest))
        return found

    async def _decide(self, listing: Listing, unanswered: list[Attempt], candidates: list[Candidate]) -> None:
        doubts = self._doubts(unanswered)
        matching = match(doubts, candidates)
        now = self._client.clock.now()
        for doubt in doubts:
            waiting = self._waiting.get(doubt.name)
            if waiting is None or waiting.settled.done() or waiting.first_listed is None:
                continue
            closed = now - waiting.first_listed > GRACE
            if candidate := matching.adopted.get(doubt.name):
                with suppress(ClaimLost):  # somebody was faster: the next look shows who
                    await self._adopt(waiting, candidate)
            elif now - doubt.earliest > TASK_LIFE - _LIST_MARGIN:
                await self._park(waiting, "its submit is too long ago for the task list to prove anything")
            elif now - waiting.first_listed > _DECIDED_WITHIN:
                await self._park(waiting, "the task list has not settled it in four hours")
            elif doubt.name in matching.undecided or not closed or not listing.complete:
                continue
            elif doubt.name in matching.absent:
                self._end(waiting, NotCreated("the service's list shows that no task was made"))
            else:
                await self._park(waiting, "more than one edit, or nobody's, could own a task of the list")

    async def _adopt(self, waiting: _Waiting, candidate: Candidate) -> None:
        attempt = await self._durably(
            self._journal.adopted,
            waiting.attempt,
            task_id=candidate.task.task_id,
            submitted_at=candidate.report.submitted_at or candidate.task.created_at,
            who="wanbatch",
            why="the only task that can be this one's",
        )
        if not waiting.settled.done():
            waiting.settled.set_result(attempt)

    async def _park_all(self, why: str) -> None:
        for waiting in list(self._waiting.values()):
            await self._park(waiting, why)

    async def _park(self, waiting: _Waiting, why: str) -> None:
        try:
            await self._durably(self._journal.parked, waiting.attempt, why=why)
        except ClaimLost as error:
            self._end(waiting, error)
        else:
            self._end(waiting, Parked(f"{waiting.attempt.item.name}: parked: {why}"))

    def _end(self, waiting: _Waiting, error: WanbatchError) -> None:
        if not waiting.settled.done():
            waiting.settled.set_exception(error)


def _in_window(doubt: Doubt, task: ListedTask) -> bool:
    if doubt.attempt.submit_request_id and doubt.attempt.submit_request_id == task.submit_request_id:
        return True
    return task.created_at is None or doubt.earliest <= task.created_at <= doubt.latest
