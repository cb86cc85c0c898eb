"""Opening a run: everything that can be wrong is found here, before any money is spent."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wanbatch import logs
from wanbatch.catalogue import Verdict, rule
from wanbatch.client import WanClient
from wanbatch.collisions import name_problems
from wanbatch.errors import (
    BadAnswer,
    ExitCode,
    JournalError,
    LedgerError,
    ManifestError,
    NeverSent,
    Refused,
    StorageError,
    UsageError,
    WanbatchError,
)
from wanbatch.journal import Cap, Journal
from wanbatch.journal.schema import shown
from wanbatch.lease import HEARTBEAT_S
from wanbatch.ledger import Ledger
from wanbatch.manifest import check_manifest
from wanbatch.media import prepare_stage
from wanbatch.models import TaskStatus
from wanbatch.naming import NameTemplate
from wanbatch.options import parse_budget
from wanbatch.pace import SystemClock
from wanbatch.planning import hold_to
from wanbatch.planning.times import run_seconds
from wanbatch.pricing import RateCard
from wanbatch.progress import report_to
from wanbatch.session import Session
from wanbatch.settings import api_key, find_service
from wanbatch.storage import VideoStore, prepare
from wanbatch.watch import account_stopped, list_denied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator

    import httpx

    from wanbatch.options import RunOptions
    from wanbatch.pace import Clock
    from wanbatch.planning import Pledge
    from wanbatch.settings import Service
    from wanbatch.window import SharedSlots

_log = logging.getLogger(__name__)

_FLUSH_S = 10.0
_PROGRESS_S = 1.0


@asynccontextmanager
async def open_session(
    options: RunOptions,
    *,
    clock: Clock | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    shared: SharedSlots | None = None,
) -> AsyncIterator[Session]:
    """Open what a run needs, and close it in good order.

    Raises `UsageError` (`ManifestError` with every bad row), `JournalError`, `LedgerError`, `StorageError`,
    `AccountStopped` for a refused key, `NeverSent` when the service can't be reached.
    """
    clock = clock or SystemClock()
    checked = await asyncio.to_thread(_checked, options, clock)
    client = WanClient(checked.service, checked.key, clock=clock, transport=transport)
    store = VideoStore(options.videos, service_host=checked.service.host, transport=transport)
    try:
        await _greet(client)
        journal = await asyncio.to_thread(_open_journal, options, clock)
        try:
            ledger = Ledger(options.ledger)
            session = Session(
                options,
                service=checked.service,
                clock=clock,
                client=client,
                journal=journal,
                ledger=ledger,
                store=store,
                rates=checked.rates,
                caps=checked.caps,
                run_s=await asyncio.to_thread(_history, ledger, checked.service.name),
                shared=shared,
            )
            logs.running.set(session)
            session.progress.rows = checked.rows
            session.progress.slots = checked.service.limits.slots
            async with _running(session, options.max_runtime_s):
                yield session
        finally:
            await asyncio.to_thread(journal.close)
    finally:
        await client.aclose()
        await store.aclose()


async def preflight(options: RunOptions) -> None:
    """Find what `open_session` would complain of, without starting anything.

    Raises `UsageError`, `AccountStopped` or `NeverSent`.
    """
    try:
        checked = await asyncio.to_thread(_checked, options, SystemClock())
        (await asyncio.to_thread(_open_journal, options, SystemClock())).close()
    except (JournalError, LedgerError, StorageError) as error:
        raise UsageError(str(error)) from None
    client = WanClient(checked.service, checked.key, clock=SystemClock())
    try:
        await _greet(client)
    finally:
        await client.aclose()


@dataclass(frozen=True, slots=True)
class _Checked:
    service: Service
    key: str = field(repr=False)
    rates: RateCard
    caps: tuple[Cap, ...]
    rows: int


def _checked(options: RunOptions, clock: Clock) -> _Checked:
    """Check everything that needs no network."""
    service = find_service(options.service, limits=options.limits)
    first, last = options.row_range
    rates = RateCard.load(options.rate_card or service.rate_card)
    caps = _caps(options, rates, clock)
    _ = options.max_runtime_s
    if _has_password(options.journal or ""):
        raise UsageError(
            "--journal holds a password, and options are kept and shown; put it into PGPASSWORD, "
            "or the whole URL into WANBATCH_JOURNAL"
        )
    report = check_manifest(Path(options.manifest))
    if report.problems:
        raise ManifestError(f"{options.manifest}: nothing was submitted", report.problems)
    if options.name and (problems := name_problems(Path(options.manifest), NameTemplate.parse(options.name))):
        raise ManifestError(f"{options.manifest}: nothing was submitted", problems)
    if options.plan:
        pledge = hold_to(Path(options.plan), options, service, rates)
        caps = caps or _planned_caps(pledge, rates)
    key = api_key(options.key_variable)
    Ledger(options.ledger).prepare()
    prepare(options.videos)
    if options.stage:
        prepare_stage(options.stage)
    rows = max(0, min(last or report.rows, report.rows) - first + 1)
    return _Checked(service, key, rates, caps, rows)


def _open_journal(options: RunOptions, clock: Clock) -> Journal:
    """Open the journal that the ledger was written from: another knows of nothing that is paid already."""
    ledger = Ledger(options.ledger)
    began = ledger.is_empty()  # looked at first: others may begin both at this moment
    journal = Journal.open(options.journal_url, clock=clock)
    if not began and journal.is_empty():
        journal.close()
        raise JournalError(
            f"{shown(options.journal_url)}: is empty, and {ledger.attempts} is not: all of it would be paid again; "
            "name the journal of its runs, or rebuild it with wanbatch restore"
        )
    return journal


def _history(ledger: Ledger, service: str) -> Collection[float]:
    try:
        return run_seconds(ledger, service)
    except LedgerError:  # empty, or damaged: a run adds to it and needs nothing of it
        return ()


def _has_password(url: str) -> bool:
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        return True  # nobody can tell, so nobody shows it


@asynccontextmanager
async def _running(session: Session, runtime_s: float | None) -> AsyncIterator[None]:
    """Enter the run in the journal, and keep its helpers going until it ends."""
    journal = session.journal
    if await session.durably(journal.dead_runs):
        await session.durably(journal.check)  # the last run was cut off: look before trusting
    await session.durably(
        journal.begin_run, session.run_id, service=session.service.name, manifest=session.options.shard
    )
    await session.divide()
    jobs = [
        session.watcher.run(),
        session.reconciler.run(),
        _heart(session),
        _clerk(session),
        _ticker(session),
    ]
    if runtime_s is not None:
        jobs.append(_alarm(session, runtime_s))
    helpers = [asyncio.create_task(job) for job in jobs]
    for helper in helpers:
        helper.add_done_callback(partial(_notice, session))
    try:
        with _signals(session):
            yield
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await session.durably(journal.end_run, session.run_id)
        await session.aclose()


def _caps(options: RunOptions, rates: RateCard, clock: Clock) -> tuple[Cap, ...]:
    if options.budget is None:
        return ()
    amount, since = parse_budget(options.budget, clock.now())
    if rates.currency is None:
        raise UsageError("--budget needs prices, and this service has none; name them with --rate-card")
    return (Cap(amount=amount, currency=rates.currency, since=since),)


def _planned_caps(pledge: Pledge, rates: RateCard) -> tuple[Cap, ...]:
    """Let the worst cost of the plan be the budget where none is named."""
    if pledge.worst is None or rates.currency is None:
        return ()
    return (Cap(amount=pledge.worst, currency=rates.currency),)


def _notice(session: Session, helper: asyncio.Task[None]) -> None:
    """End the run when one of its helpers dies: everybody would wait for it for ever."""
    if not helper.cancelled() and (error := helper.exception()):
        _log.error("a fault of wanbatch", exc_info=error)
        session.stop("a fault of wanbatch; please report it", ExitCode.BUG, abandon=True)


async def _greet(client: WanClient) -> None:
    """Ask for one harmless thing, so that a wrong key or address is known before anything is claimed."""
    try:
        await client.tasks(status=TaskStatus.RUNNING)
    except Refused as error:
        verdict = rule(error.http_status, error.code, error.message).verdict
        if verdict is Verdict.STOP_RUN and not list_denied(error):
            raise account_stopped(error) from None
    except NeverSent as error:
        raise NeverSent(
            f"{client.service.base_url}: no connection ({error}); nothing was submitted"
        ) from None
    except BadAnswer as error:
        _log.info("the task list did not answer as documented: %s", error)


async def _heart(session: Session) -> None:
    """Show that we live."""
    while True:
        await session.clock.sleep(HEARTBEAT_S)
        try:
            await session.durably(session.journal.heartbeat, session.run_id)
            await session.divide()
        except WanbatchError as error:
            _log.warning("heartbeat: %s", error)


async def _clerk(session: Session) -> None:
    """Write the ledger now and then; a ledger that can't be written stops the spending."""
    while True:
        await session.clock.sleep(_FLUSH_S)
        try:
            if session.news:
                await session.flush()
        except WanbatchError as error:
            session.stop(str(error), ExitCode.INCOMPLETE)


async def _ticker(session: Session) -> None:
    """Tell whoever watches how far we are."""
    listener, started = report_to.get(), session.clock.monotonic()
    while True:
        progress = session.progress
        progress.elapsed_s = session.clock.monotonic() - started
        progress.running = session.watcher.running
        progress.others = session.watcher.others
        progress.in_doubt = session.reconciler.doubts
        progress.trouble = session.watcher.trouble
        if listener:
            listener(progress)
        await session.clock.sleep(_PROGRESS_S)


async def _alarm(session: Session, seconds: float) -> None:
    await session.clock.sleep(seconds)
    session.stop(f"the run time of {session.options.max_runtime} is over", ExitCode.INCOMPLETE, abandon=True)


@contextmanager
def _signals(session: Session) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the run in good order, and the second end it at once."""
    loop = asyncio.get_running_loop()
    ours = asyncio.current_task()

    def catch(number: int) -> None:
        if session.stopped and session.stopped.abandon:
            if ours:
                ours.cancel()
            return
        session.stop(f"{signal.Signals(number).name} came", ExitCode.INCOMPLETE, abandon=True)

    handled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not the main thread: somebody else's
            loop.add_signal_handler(number, catch, number)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
