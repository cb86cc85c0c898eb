"""Manifest and journal to a plan, streamed: nothing is held of a row but its key."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanbatch.errors import ManifestError, ProbeError, Problem
from wanbatch.identity import without_signature
from wanbatch.inputs import Inputs
from wanbatch.journal import Journal, Outcome, State
from wanbatch.manifest import check_manifest, read_manifest
from wanbatch.pace import SystemClock
from wanbatch.planning.costs import Estimate, Sums, estimate
from wanbatch.planning.times import RunTimes, makespan_s, remembered
from wanbatch.pricing import RateCard
from wanbatch.session import is_ours, next_number
from wanbatch.settings import find_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import datetime

    from wanbatch.journal import Attempt
    from wanbatch.models import Item, Resolution
    from wanbatch.options import RunOptions
    from wanbatch.pace import Clock
    from wanbatch.settings import Service

_ITEMS_AT_ONCE = 500
_DEAREST = 10
_TAG_VALUES = 1_000
"""Values of one tag that are added up each; a tag that names every row would fill the memory."""
_PROBLEMS_KEPT = 1_000
_DIGITS = 15
"""Of a key, to find repeated rows by: 60 bits, whose numbers take a third of the memory of whole keys.

Among a million rows two of them are alike by accident once in two million plans.
"""
_NOTHING = Decimal(0)
OTHER_VALUES = "(other values)"


class Standing(StrEnum):
    """What a run would do about a row."""

    NEW = "new"
    AGAIN = "again"
    """It ended without success, and is tried again."""
    OPEN = "open"
    PARKED = "parked"
    """It waits for a person's word, and is left as it is."""
    DONE = "done"
    FAILED = "failed"
    """It ended without success, and is left as it is."""
    DUPLICATE = "duplicate"
    ELSEWHERE = "elsewhere"
    """It is another service's, or open at one."""
    REFUSED = "refused"
    """One of its inputs would not do."""


_SUBMITTED = {Standing.NEW, Standing.AGAIN}


@dataclass(frozen=True, slots=True, order=True)
class Dear:
    """One of the dearest rows; in the order of what is expected of them."""

    expected: Decimal
    seconds: Decimal
    place: int
    """The row, negative: of equal rows the first counts as dearer."""
    name: str
    video: str
    worst: Decimal | None = field(compare=False)

    @property
    def row(self) -> int:
        """The data row, counted from 1."""
        return -self.place


@dataclass(slots=True, kw_only=True)
class Plan:
    """What a run would do. Money in `rates.currency`, except `reserved`, times in UTC."""

    options: RunOptions
    service: Service
    rates: RateCard
    made_at: datetime
    rows: int
    run_times: RunTimes
    digest: str = ""
    """Of the keys of all rows, in order: another one is another manifest."""
    counts: Counter[Standing] = field(default_factory=Counter)
    new: Sums = field(default_factory=Sums)
    """Of what would be submitted."""
    cut: int = 0
    """Edits whose `duration` may cut their input."""
    unknown_length: int = 0
    """Edits whose input was not looked at, or can't be."""
    tags: dict[str, dict[str, Sums]] = field(default_factory=dict)
    dearest: list[Dear] = field(default_factory=list)
    open_edits: int = 0
    """Attempts at this service, from any manifest, that a run would take up."""
    reserved: dict[str, Decimal] = field(default_factory=dict)
    """By currency, for those and for parked ones."""
    problems: list[Problem] = field(default_factory=list)
    _least_dear: tuple[Decimal, Decimal] = field(default=(_NOTHING, _NOTHING), init=False)

    @property
    def worst(self) -> Decimal | None:
        """The most that a run could spend and reserve, with what is open; None when a price is unknown."""
        if self.rates.currency is None or self.new.unknown:
            return None
        return self.new.worst + self.reserved.get(self.rates.currency, Decimal(0))

    def seconds_left(self, run_s: float) -> float:
        """Say how long it would take if the service worked so long on each edit, in seconds."""
        return makespan_s(self.new.edits + self.open_edits, run_s, self.service.limits)

    # ---------------------------------------------------------------------------------- filling it in

    def add(self, rows: Sequence[tuple[Item, Estimate]]) -> None:
        """Add up rows that would be submitted."""
        for one, times in Counter(one for _, one in rows).items():
            self.new.add(one, times)
            self.cut += one.cut * times
            self.unknown_length += (not one.length_known) * times
        tagged = Counter((tag, value, one) for item, one in rows for tag, value in item.tags.items())
        for (tag, value, one), times in tagged.items():
            sums = self.tags.setdefault(tag, {})
            shown = value if value in sums or len(sums) < _TAG_VALUES else OTHER_VALUES
            sums.setdefault(shown, Sums()).add(one, times)
        for item, one in rows:
            rank = (one.price.expected if one.price else _NOTHING, one.seconds)
            if len(self.dearest) < _DEAREST or rank > self._least_dear:
                self._keep_dear(item, one, rank)

    def _keep_dear(self, item: Item, one: Estimate, rank: tuple[Decimal, Decimal]) -> None:
        worst = one.price.worst if one.price else None
        video = without_signature(item.request.video)
        heapq.heappush(self.dearest, Dear(*rank, -item.row, item.name, video, worst))
        if len(self.dearest) > _DEAREST:
            heapq.heappop(self.dearest)
        self._least_dear = (self.dearest[0].expected, self.dearest[0].seconds)

    def refuse(self, item: Item, standing: Standing, error: ProbeError) -> None:
        """Say of a row that stood there to be submitted that one of its inputs would not do."""
        self.counts[standing] -= 1
        self.counts[Standing.REFUSED] += 1
        if len(self.problems) < _PROBLEMS_KEPT:
            mend = "mend the input, or look again when its server is well"
            self.problems.append(Problem(item.row, "", item.name, str(error), mend))


async def make_plan(options: RunOptions, *, clock: Clock | None = None) -> Plan:
    """Plan a run: read the manifest, the journal and the ledger, and look at the inputs unless told not to.

    Needs no key and asks the service nothing. Raises `ManifestError` with every bad row, `UsageError`,
    `JournalError`, `LedgerError`.
    """
    plan = await asyncio.to_thread(_blank, options, (clock or SystemClock()).now())
    async with _books(options) as books:
        if books.journal:
            await books.durably(_note_open, plan, books.journal)
        await _read_rows(plan, books)
    plan.dearest.sort(reverse=True)
    return plan


def _blank(options: RunOptions, now: datetime) -> Plan:
    """Check everything that can be wrong before the first row is looked at."""
    service = find_service(options.service, limits=options.limits)
    rates = RateCard.load(options.rate_card or service.rate_card)
    report = check_manifest(Path(options.manifest))
    if report.problems:
        raise ManifestError(f"{options.manifest}: can't be planned as it is", report.problems)
    return Plan(
        options=options,
        service=service,
        rates=rates,
        made_at=now,
        rows=report.rows,
        run_times=remembered(options.ledger, service.name),
    )


@dataclass(frozen=True, slots=True)
class _Books:
    journal: Journal | None
    inputs: Inputs | None
    durably: Callable[..., Any]


@asynccontextmanager
async def _books(options: RunOptions) -> AsyncIterator[_Books]:
    """Open the journal; one that is not there yet is only made to remember inputs in."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="journal") as thread:

        async def durably(change: Callable[..., Any], *args: Any) -> Any:
            return await loop.run_in_executor(thread, partial(change, *args))

        if not (options.probe or _is_there(options.journal_url)):
            yield _Books(None, None, durably)
            return
        journal: Journal = await durably(Journal.open, options.journal_url)
        inputs = Inputs(journal, durably) if options.probe else None
        try:
            yield _Books(journal, inputs, durably)
        finally:
            if inputs:
                await inputs.aclose()
            await durably(journal.close)


def _is_there(journal: str) -> bool:
    return "://" in journal or Path(journal).exists()


def _note_open(plan: Plan, journal: Journal) -> None:
    """Count what a run takes up first. A parked attempt keeps at least its money."""
    for attempt in journal.open_attempts(service=plan.service.name):
        plan.open_edits += _taken_up(attempt, plan.options)
        if attempt.currency and attempt.reserved is not None:
            kept = plan.reserved.get(attempt.currency, Decimal(0))
            plan.reserved[attempt.currency] = kept + attempt.reserved


async def _read_rows(plan: Plan, books: _Books) -> None:
    day = plan.made_at.date()

    @lru_cache(maxsize=65_536)
    def priced(resolution: Resolution, input_s: Decimal | None, duration: int) -> Estimate:
        return estimate(plan.rates.rate(resolution, day), input_s, duration)

    digest, seen = KeysDigest(), set[int]()
    items = read_manifest(Path(plan.options.manifest))
    while chunk := await asyncio.to_thread(lambda: list(itertools.islice(items, _ITEMS_AT_ONCE))):
        latest: dict[str, Attempt] = {}
        if books.journal:
            latest = await books.durably(books.journal.latest, [item.key for item in chunk])
        standings = [_standing(item, plan, latest, seen) for item in chunk]
        plan.counts.update(standings)
        wanted = [pair for pair in zip(chunk, standings, strict=True) if pair[1] in _SUBMITTED]
        lengths = await _lengths([item for item, _ in wanted], books.inputs)
        submitted = []
        for (item, standing), length in zip(wanted, lengths, strict=True):
            if isinstance(length, ProbeError):
                plan.refuse(item, standing, length)
            else:
                request = item.request
                submitted.append((item, priced(request.resolution, length, request.duration)))
        plan.add(submitted)
        for item in chunk:
            digest.add(item)
    plan.digest = digest.hexdigest()


def _standing(item: Item, plan: Plan, latest: Mapping[str, Attempt], seen: set[int]) -> Standing:
    if not is_ours(item, plan.options, plan.service):
        return Standing.ELSEWHERE
    key = int(item.key[:_DIGITS], 16)
    if key in seen:
        return Standing.DUPLICATE
    seen.add(key)
    last = latest.get(item.key)
    if next_number(last, plan.options.retry):
        return Standing.AGAIN if last else Standing.NEW
    assert last is not None  # the first attempt is always wanted
    if last.open:
        return _open_standing(last, plan)
    return Standing.DONE if last.outcome is Outcome.SUCCEEDED else Standing.FAILED


def _open_standing(last: Attempt, plan: Plan) -> Standing:
    if last.service != plan.service.name:
        return Standing.ELSEWHERE
    return Standing.OPEN if _taken_up(last, plan.options) else Standing.PARKED


def _taken_up(attempt: Attempt, options: RunOptions) -> bool:
    return attempt.state is not State.PARKED or "parked" in options.retry


async def _lengths(items: Sequence[Item], inputs: Inputs | None) -> list[Decimal | ProbeError | None]:
    """Say how long each item's video is, or what is wrong with its inputs; None where nobody looks."""
    if inputs is None:
        return [None] * len(items)
    return await asyncio.gather(*(_length(item, inputs) for item in items))


async def _length(item: Item, inputs: Inputs) -> Decimal | ProbeError | None:
    try:
        return await inputs.seconds(item)
    except ProbeError as error:
        return error


class KeysDigest:
    """Tells one manifest from another: by the edits it asks for, in order, and for which service."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, item: Item) -> None:
        """Take in the next row."""
        self._digest.update(f"{item.key}\0{item.service or ''}\n".encode())

    def hexdigest(self) -> str:
        """Give the digest of all rows so far: 32 hexadecimal digits."""
        return self._digest.hexdigest()


def keys_digest(manifest: Path) -> str:
    """Digest a whole manifest; raises `ManifestError`."""
    digest = KeysDigest()
    for item in read_manifest(manifest):
        digest.add(item)
    return digest.hexdigest()
