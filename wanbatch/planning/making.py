"""Manifest and journal to a plan, streamed: nothing is held of a row but 8 bytes, or the key of one without an id."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanbatch.errors import ManifestError, ProbeError
from wanbatch.inputs import Inputs
from wanbatch.journal import Journal, Outcome, State
from wanbatch.manifest import Check, check_manifest, keyed
from wanbatch.models import Resolution
from wanbatch.pace import SystemClock
from wanbatch.planning.costs import Estimate, estimate
from wanbatch.planning.plan import Plan, Standing
from wanbatch.planning.pledge import KeysDigest
from wanbatch.planning.times import remembered
from wanbatch.pricing import RateCard
from wanbatch.session import is_ours, next_number
from wanbatch.settings import find_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from wanbatch.journal import Attempt
    from wanbatch.manifest import CheckReport, Rows
    from wanbatch.models import Item
    from wanbatch.options import RunOptions
    from wanbatch.pace import Clock

_DIGITS = 15
"""Of a key, to find repeated rows by: 60 bits, whose numbers take a third of the memory of whole keys.

Among a million rows two of them are alike by accident once in two million plans.
"""


async def make_plan(options: RunOptions, *, clock: Clock | None = None) -> Plan:
    """Plan a run: read the manifest, the journal and the ledger, and look at the inputs unless told not to.

    Needs no key and asks the service nothing. Raises `ManifestError` with every bad row, `UsageError`,
    `JournalError`, `LedgerError`.
    """
    plan = await asyncio.to_thread(_blank, options, (clock or SystemClock()).now())
    async with _books(options) as books:
        if books.journal:
            await books.apart(_note_open, plan, books.journal)
        await _read_rows(plan, books)
    plan.dearest.sort(reverse=True)
    return plan


def _blank(options: RunOptions, now: datetime) -> Plan:
    """Check everything that can be wrong before the first row is looked at."""
    service = find_service(options.service, limits=options.limits)
    rates = RateCard.load(options.rate_card or service.rate_card)
    if options.probe:  # a bad manifest would be found out only after half of its inputs were fetched
        _refuse(options, check_manifest(Path(options.manifest)))
    return Plan(
        options=options,
        service=service,
        rates=rates,
        made_at=now,
        run_times=remembered(options.ledger, service.name),
    )


def _refuse(options: RunOptions, report: CheckReport) -> None:
    if report.problems:
        raise ManifestError(f"{options.manifest}: can't be planned as it is", report.problems)


@dataclass(frozen=True, slots=True)
class _Books:
    journal: Journal | None
    inputs: Inputs | None
    apart: Callable[..., Any]
    """Does one thing at a time in a thread of its own; each thread of several would keep memory of its own."""


@asynccontextmanager
async def _books(options: RunOptions) -> AsyncIterator[_Books]:
    """Open the journal; one that is not there yet is only made to remember inputs in."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="plan") as thread:

        async def apart(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return await loop.run_in_executor(thread, partial(work, *args, **kwargs))

        if not (options.probe or _is_there(options.journal_url)):
            yield _Books(None, None, apart)
            return
        journal: Journal = await apart(Journal.open, options.journal_url)
        inputs = Inputs(journal, apart) if options.probe else None
        try:
            yield _Books(journal, inputs, apart)
        finally:
            if inputs:
                await inputs.aclose()
            await apart(journal.close)


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
    """Check and plan in one reading."""
    day = plan.made_at.date()

    @lru_cache(maxsize=65_536)
    def priced(resolution: str, input_s: Decimal | None, duration: str) -> Estimate:
        return estimate(plan.rates.rate(Resolution(resolution), day), input_s, int(duration))

    check, digest, seen = Check(Path(plan.options.manifest)), KeysDigest(), set[int]()
    parts = _good_rows(check)
    while rows := await books.apart(next, parts, None):
        digest.add(rows)
        standings = await _standings(rows, plan, books, seen)
        lengths = await _lengths(rows, standings, plan, books.inputs)
        plan.counts.update(standings)
        places = _to_submit(standings)
        wanted = rows.at(places)
        kinds = zip(
            wanted.texts("resolution"),
            [lengths[place] for place in places],
            wanted.texts("duration"),
            strict=True,
        )
        plan.add(wanted, [priced(*kind) for kind in kinds])
    report = await books.apart(check.report)
    _refuse(plan.options, report)
    plan.rows, plan.digest = report.rows, digest.hexdigest()


def _good_rows(check: Check) -> Iterator[Rows]:
    """Give the rows until one is bad; what follows is only checked."""
    for checked in check.read():
        if check.ok:
            yield from keyed(checked, check.path)


async def _standings(rows: Rows, plan: Plan, books: _Books, seen: set[int]) -> list[Standing]:
    latest: Mapping[str, Attempt] = {}
    if books.journal:
        latest = await books.apart(books.journal.latest, rows.keys)
    standings = []
    for key, item_id, service in zip(rows.keys, rows.texts("id"), rows.texts("service"), strict=True):
        if not is_ours(key, service, plan.options, plan.service):
            standing = Standing.ELSEWHERE
        elif not item_id and _is_repeated(key, seen):
            standing = Standing.DUPLICATE
        else:
            standing = _standing(latest.get(key), plan)
        standings.append(standing)
    return standings


def _is_repeated(key: str, seen: set[int]) -> bool:
    """Look for a row that asks for the same; one with an id never does, or the manifest is refused."""
    number = int(key[:_DIGITS], 16)
    if number in seen:
        return True
    seen.add(number)
    return False


def _standing(last: Attempt | None, plan: Plan) -> Standing:
    if last is None:
        return Standing.NEW
    if next_number(last, plan.options.retry):
        return Standing.AGAIN
    if last.open:
        return _open_standing(last, plan)
    return Standing.DONE if last.outcome is Outcome.SUCCEEDED else Standing.FAILED


def _open_standing(last: Attempt, plan: Plan) -> Standing:
    if last.service != plan.service.name:
        return Standing.ELSEWHERE
    return Standing.OPEN if _taken_up(last, plan.options) else Standing.PARKED


def _taken_up(attempt: Attempt, options: RunOptions) -> bool:
    return attempt.state is not State.PARKED or "parked" in options.retry


def _to_submit(standings: Sequence[Standing]) -> list[int]:
    return [
        place
        for place, standing in enumerate(standings)
        if standing is Standing.NEW or standing is Standing.AGAIN
    ]


async def _lengths(
    rows: Rows, standings: list[Standing], plan: Plan, inputs: Inputs | None
) -> list[Decimal | None]:
    """Say how long each row's video is, as far as it is looked at; rows whose inputs would not do become REFUSED."""
    lengths: list[Decimal | None] = [None] * len(standings)
    if inputs:
        places = _to_submit(standings)
        items = list(rows.at(places).items())
        found = await asyncio.gather(*(_length(item, inputs) for item in items))
        for place, item, length in zip(places, items, found, strict=True):
            if isinstance(length, ProbeError):
                standings[place] = Standing.REFUSED
                plan.refuse(item, length)
            else:
                lengths[place] = length
    return lengths


async def _length(item: Item, inputs: Inputs) -> Decimal | ProbeError | None:
    try:
        return await inputs.seconds(item)
    except ProbeError as error:
        return error
