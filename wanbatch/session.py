"""One run: everything it holds open, what it works on, and why it stops."""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from wanbatch.catalogue import Verdict, rule
from wanbatch.clerk import Clerk
from wanbatch.errors import BudgetReached, ExitCode, LeftOpen, ManifestError, UsageError
from wanbatch.inputs import Inputs
from wanbatch.journal import Cap, Outcome, State
from wanbatch.manifest import read_manifest
from wanbatch.media import Media
from wanbatch.naming import NameTemplate
from wanbatch.pace import Gate
from wanbatch.progress import Progress
from wanbatch.reconcile import Reconciler
from wanbatch.schedule import PollSchedule
from wanbatch.watch import Watcher
from wanbatch.window import Window

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable

    from wanbatch.client import WanClient
    from wanbatch.journal import Attempt, Journal
    from wanbatch.ledger import Ledger
    from wanbatch.models import Item
    from wanbatch.options import RunOptions
    from wanbatch.pace import Clock
    from wanbatch.pricing import RateCard
    from wanbatch.settings import Service
    from wanbatch.storage import VideoStore
    from wanbatch.window import Place, SharedSlots

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")

ATTEMPT_CAP = 3
"""How often an item is tried when the service fails at it without billing."""
_DOWNLOADS = 8
_ITEMS_AT_ONCE = 200


class Work:
    """An item on its way through the steps, with its attempt as soon as there is one.

    `wait_s`: how long to wait first, since an item that failed at the service is not sent again at once.
    `tries`: the how many-th try of this run it is. `complete`: whether its URLs still have their signatures.
    """

    # No dataclass: Prefect walks through those of a task's parameters, field by field.
    def __init__(
        self,
        item: Item,
        place: Place,
        number: int,
        *,
        attempt: Attempt | None = None,
        wait_s: float = 0.0,
        tries: int = 1,
        complete: bool = True,
    ) -> None:
        self.item = item
        self.place = place
        self.number = number
        self.attempt = attempt
        self.wait_s = wait_s
        self.tries = tries
        self.complete = complete

    @property
    def name(self) -> str:
        """What people call the item."""
        return self.item.name


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run takes on nothing new. `abandon`: what is at the service is left open, too."""

    reason: str
    exit_code: ExitCode
    abandon: bool


class Session:
    """What the steps work with. Made by `wanbatch.opening.open_session`."""

    # No dataclass, for the same reason.
    def __init__(
        self,
        options: RunOptions,
        *,
        service: Service,
        clock: Clock,
        client: WanClient,
        journal: Journal,
        ledger: Ledger,
        store: VideoStore,
        rates: RateCard,
        caps: tuple[Cap, ...],
        run_s: Iterable[float] = (),
        shared: SharedSlots | None = None,
    ) -> None:
        self.run_id = f"{clock.now():%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
        self.options = options
        self.service = service
        self.clock = clock
        self.client = client
        self.journal = journal
        self.ledger = ledger
        self._clerk = Clerk(journal, ledger, self.run_id)
        self.store = store
        self.rates = rates
        self.caps = caps
        self.window = Window(service.limits, clock, shared=shared)
        self.watcher = Watcher(
            client,
            clock,
            window=self.window,
            schedule=PollSchedule(run_s),
            interval_s=options.poll_interval,
        )
        self.reconciler = Reconciler(
            client, journal, clock, durably=self.durably, interval_s=options.poll_interval
        )
        self._inputs = Inputs(journal, self.durably, since=clock.now())
        self.progress = Progress(
            run_id=self.run_id, currency=rates.currency, budget=caps[0].amount if caps else None
        )
        self.downloads = Gate(_DOWNLOADS)
        self.media = Media(client, clock, pause=self.pause, stage=options.stage)
        self.names = NameTemplate.parse(options.name) if options.name else None
        self.again: asyncio.Queue[Work] = asyncio.Queue()
        self.news = True
        """Whether something may be settled that the ledger does not have; at first, by a run that died."""
        self.stopped: Stop | None = None
        self.unfinished: str | None = None
        """Why the run ends before its manifest does, without anything being wrong."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._settled = asyncio.Event()
        self._at_work = 0
        self._in_hand: set[str] = set()
        self._short_of_money = 0
        self._lingering = 0

    async def aclose(self) -> None:
        """Close what the session itself opened."""
        await self._inputs.aclose()
        self._thread.shutdown()

    # ------------------------------------------------------------------------------------------ the effects

    async def durably(self, change: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do one thing to the journal or the ledger in their thread, one after another."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: change(*args, **kwargs))

    async def affordably(self, claim: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Claim as soon as the budget has room: what is in flight gives back what it did not need.

        Raises `BudgetReached` when nothing in flight can make room any more.
        """
        while True:
            self.check_going()
            settled = self._settled
            try:
                return await self.durably(claim, *args, **kwargs)
            except BudgetReached:
                if self._settled is not settled:
                    continue  # something settled meanwhile
                if self._at_work - self._short_of_money <= 1:
                    raise
            self._short_of_money += 1
            try:
                await self._settled.wait()
            finally:
                self._short_of_money -= 1

    async def pause(self, seconds: float) -> None:
        """Wait, unless the run is stopping; raises `LeftOpen` then."""
        await self._until(self._stopping, seconds)

    async def linger(self, seconds: float) -> bool:
        """Wait for as long as others are at work; False once nobody else is, and the run would wait for this alone.

        Raises `LeftOpen` when the run is stopping.
        """
        over = self.clock.monotonic() + seconds
        self._lingering += 1
        try:
            while self._at_work > self._lingering + self._short_of_money:
                if (left := over - self.clock.monotonic()) <= 0:
                    return True
                await self._until(self._settled, left)
            return False
        finally:
            self._lingering -= 1

    async def _until(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for an event, but no longer than so; raises `LeftOpen` when the run is stopping."""
        waits = [asyncio.ensure_future(wait) for wait in (event.wait(), self.clock.sleep(seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self.check_going()

    async def divide(self) -> None:
        """Keep to our part of the account's limits: all live runs that share the journal have the same."""
        runs = max(await self.durably(self.journal.live_runs, self.service.name), 1)
        self.window.runs = runs
        for rate in (self.client.submits, self.client.queries, self.client.lists):
            rate.sharers = runs

    def trouble(self, words: str) -> None:
        """Say what is wrong with the service right now."""
        self.watcher.trouble = words

    def check_going(self) -> None:
        """Raise `LeftOpen` when nothing new may be sent."""
        if self.stopped:
            raise LeftOpen(self.stopped.reason)

    def stop(self, reason: str, exit_code: ExitCode, *, abandon: bool = False) -> None:
        """Take on nothing new from now on. The first reason is the one that counts."""
        first = self.stopped is None
        if self.stopped is None or (abandon and not self.stopped.abandon):
            self.stopped = Stop(
                reason if self.stopped is None else self.stopped.reason,
                exit_code if self.stopped is None else self.stopped.exit_code,
                abandon,
            )
        if first:
            _log.warning("stopping: %s", reason)
        self._stopping.set()
        self._settled.set()
        if abandon:
            self.watcher.abandon(LeftOpen(reason))
            self.reconciler.abandon(LeftOpen(reason))

    # -------------------------------------------------------------------------------------------- the work

    async def works(self) -> AsyncIterator[Work]:
        """Give what there is to do, each as soon as the window has a place for it.

        First what is open from before, then the manifest, and in between what is to be tried again.
        """
        taken_over = await self.durably(self.journal.take_over, self.run_id, self.service.name)
        theirs = {attempt.key for attempt in taken_over}
        self.progress.reserved += sum((attempt.reserved or Decimal(0) for attempt in taken_over), Decimal(0))
        for attempt in taken_over:
            if attempt.state is State.PARKED and "parked" not in self.options.retry:
                self.progress.count(parked=1)
                continue
            if attempt.state is State.PARKED:
                attempt = await self.durably(  # noqa: PLW2901 - the same attempt, one state on
                    self.journal.reopened, attempt, who="--retry parked", why="asked for"
                )
            item = await asyncio.to_thread(self._from_manifest, attempt)
            resumed = await self._work(item or attempt.item, number=attempt.number, attempt=attempt)
            resumed.complete = item is not None or not attempt.signed
            yield resumed
        new = 0
        async for item, number in self._wanted(theirs):
            while not self.again.empty():
                yield await self._resume(self.again.get_nowait())
            if self.options.limit is not None and new >= self.options.limit:
                self.unfinished = f"--limit {new} is reached"
                break
            if self.stopped:
                break
            new += 1
            yield await self._work(item, number=number)
        while work := await self._next_again():
            yield work

    async def _next_again(self) -> Work | None:
        """Wait for an item that is to be tried again; None when none can come any more."""
        while True:
            if not self.again.empty() and not self.stopped:
                return await self._resume(self.again.get_nowait())
            if self._at_work == 0:
                return None
            self._idle.clear()
            await self._idle.wait()

    async def _work(self, item: Item, *, number: int, attempt: Attempt | None = None) -> Work:
        # What was sent before is at the service whether there is a place for it or not, and has to be fetched.
        there = attempt is not None and attempt.state is not State.INTENDED
        place = self.window.occupy() if there else await self.window.enter()
        self._at_work += 1
        self._in_hand.add(item.key)
        return Work(item, place, number, attempt=attempt)

    async def _resume(self, work: Work) -> Work:
        fresh = await self._work(work.item, number=work.number)
        fresh.wait_s, fresh.tries = work.wait_s, work.tries
        return fresh

    def finished(self, work: Work) -> None:
        """Say that the steps are through with it."""
        work.place.leave()
        self._in_hand.discard(work.item.key)
        self._at_work -= 1
        self._idle.set()
        self._settled.set()
        self._settled = asyncio.Event()

    async def _wanted(self, theirs: set[str]) -> AsyncIterator[tuple[Item, int]]:
        """Give the manifest's items that are to be edited, with the number of the attempt."""
        first_row, last_row = self.options.row_range
        items = read_manifest(Path(self.options.manifest), first_row=first_row, last_row=last_row)
        while chunk := await asyncio.to_thread(lambda: list(itertools.islice(items, _ITEMS_AT_ONCE))):
            latest = await self.durably(self.journal.latest, [item.key for item in chunk])
            seen: set[str] = set()
            for item in chunk:
                if item.key in theirs:
                    continue
                if (
                    item.key in seen
                    or item.key in self._in_hand
                    or not is_ours(item.key, item.service, self.options, self.service)
                ):
                    self.progress.count(duplicates=1)
                    continue
                seen.add(item.key)
                last = latest.get(item.key)
                if last and last.run_id == self.run_id:
                    self.progress.count(duplicates=1)
                elif number := next_number(last, self.options.retry):
                    yield item, number
                elif last:
                    self._count_settled(last)

    def _count_settled(self, last: Attempt) -> None:
        if last.open:
            self.progress.count(elsewhere=1)
        elif last.outcome is Outcome.SUCCEEDED:
            self.progress.count(done_before=1)
        else:
            self.progress.count(failed_before=1)

    def _from_manifest(self, attempt: Attempt) -> Item | None:
        """Find the item of an open attempt in the manifest, where its URLs still have their signatures."""
        with suppress(ManifestError, UsageError):
            for item in read_manifest(
                Path(self.options.manifest), first_row=attempt.row, last_row=attempt.row
            ):
                if item.key == attempt.key:
                    return item
        return None

    # ------------------------------------------------------------------------------------------ the books

    async def flush(self) -> None:
        """Write what is settled into the ledger."""
        self.news = False
        await self.durably(self._clerk.write_settled)

    # ------------------------------------------------------------------------------------------ the inputs

    async def input_seconds(self, item: Item) -> Decimal | None:
        """Look at an item's inputs and say how long its video is; see `wanbatch.inputs`."""
        return await self._inputs.seconds(item)


def is_ours(key: str, named: str | None, options: RunOptions, service: Service) -> bool:
    """Say whether an item is for this run: it names this service, or none and falls into our share."""
    return named in {options.service, service.name} if named else options.has_share_of(key)


def next_number(last: Attempt | None, retry: Collection[str]) -> int | None:
    """Give the number of the next attempt at an item after its last; None when it is to be left as it is.

    `retry` has the outcomes and error codes that are to be edited again.
    """
    if last is None:
        return 1
    if last.open or last.outcome is Outcome.SUCCEEDED:
        return None
    asked = {str(last.outcome), last.code or ""} & set(retry)
    return last.number + 1 if asked or may_try_again(last) else None


def may_try_again(last: Attempt) -> bool:
    """Say whether an item that ended without success is tried again unasked."""
    if last.outcome is Outcome.NOT_CREATED or last.code == "ProbeFailed":
        return True
    if last.outcome is not Outcome.FAILED or last.number >= ATTEMPT_CAP:
        return False
    return rule(None, last.code or "", last.message or "").verdict is Verdict.NEW_ATTEMPT
