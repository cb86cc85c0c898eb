"""One row's way, and many rows at once."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from wanbatch import logs, telemetry
from wanbatch import steps as plain
from wanbatch.errors import (
    AccountStopped,
    BudgetReached,
    ClaimLost,
    DownloadError,
    ExitCode,
    JournalError,
    LeftOpen,
    Parked,
    StorageError,
    WanbatchError,
)
from wanbatch.journal import Outcome, State
from wanbatch.pace import delay
from wanbatch.progress import announce
from wanbatch.redact import scrub
from wanbatch.session import ATTEMPT_CAP, Work, may_try_again
from wanbatch.steps import Ending, ending_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wanbatch.session import Session
    from wanbatch.steps import Delivery, Edit, Submission

_log = logging.getLogger(__name__)

_DOWNLOAD_AGAIN_S = 600.0
"""So long after a result could not be had, it is asked for again."""


class Steps(NamedTuple):
    """The steps of an edit: plain coroutines here, Prefect tasks in a flow."""

    submit: Callable[[Session, Work], Awaitable[Submission]] = plain.submit
    wait: Callable[[Session, Submission], Awaitable[Edit]] = plain.wait
    download: Callable[[Session, Edit], Awaitable[Delivery]] = plain.download
    record: Callable[[Session, Work, Ending], Awaitable[None]] = plain.record


@telemetry.of_run
async def edit_videos(session: Session, steps: Steps) -> None:
    """Edit everything there is to edit, a bounded window at a time; a row that fails never stops the others."""
    async with asyncio.TaskGroup() as group:
        try:
            async for work in session.works():
                group.create_task(edit_video(session, work, steps), name=work.item.name)
        except WanbatchError as problem:  # the journal, or a manifest that changed while it was read
            session.stop(str(problem), ExitCode.INCOMPLETE, abandon=isinstance(problem, JournalError))


@telemetry.of_item
async def edit_video(session: Session, work: Work, steps: Steps) -> None:
    """Bring one row from manifest to ledger."""
    logs.working_on.set(work)
    try:
        ending = await _edited(session, work, steps)
        if ending:
            await steps.record(session, work, ending)
            _log.info("%s: %s", work.item.name, ending.outcome)
            await _again(session, work, ending)
    except ClaimLost:
        session.progress.count(elsewhere=1)
    except WanbatchError as problem:  # the journal or the ledger itself
        session.stop(str(problem), ExitCode.INCOMPLETE, abandon=isinstance(problem, JournalError))
        session.progress.count(left_open=1)
    except Exception:  # noqa: BLE001 - see below
        # A bug of ours in one row takes nothing from the others: what is in flight there is paid.
        _log.exception("%s: left open by a fault of wanbatch", work.item.name)
        session.stop("a fault of wanbatch; please report it", ExitCode.BUG)
        session.progress.count(left_open=1)
    finally:
        session.finished(work)


async def _edited(session: Session, work: Work, steps: Steps) -> Ending | None:
    """Submit, wait, download; say how it ended, or None when it has not."""
    if work.attempt and work.attempt.state is State.STORED:
        return Ending(outcome=Outcome.SUCCEEDED)
    try:
        submission = await steps.submit(session, work)
        edit = await steps.wait(session, submission)
        work.place.leave()  # the service has a free slot; what follows is between us and its result host
        delivery = await _delivered(session, edit, steps)
    except ClaimLost:
        raise
    except WanbatchError as problem:
        if ending := ending_of(problem):
            return ending
        _not_ended(session, work, problem)
        return None
    code = "LengthUnexpected" if delivery.note else ""
    return Ending(outcome=Outcome.SUCCEEDED, code=code, message=delivery.note)


async def _delivered(session: Session, edit: Edit, steps: Steps) -> Delivery:
    """Download, again and again while the run has other work: it may last for longer than the result does."""
    while True:
        try:
            return await steps.download(session, edit)
        except DownloadError:
            if not await session.linger(_DOWNLOAD_AGAIN_S):
                raise


def _not_ended(session: Session, work: Work, problem: WanbatchError) -> None:
    """Take note of what leaves an attempt open, and stop when it would happen to every other too."""
    match problem:
        case AccountStopped():
            session.stop(scrub(str(problem)), ExitCode.ACCOUNT_STOPPED)
        case BudgetReached():
            session.stop(str(problem), ExitCode.INCOMPLETE)
            announce("budget.stopped", session.run_id, reason=str(problem))
        case StorageError() | JournalError():
            session.stop(str(problem), ExitCode.INCOMPLETE, abandon=isinstance(problem, JournalError))
        case Parked():
            _log.warning("%s", scrub(str(problem)))
            announce("attempt.parked", work.item.name, reason=scrub(str(problem)))
        case LeftOpen():
            _log.info("%s: left open: %s", work.item.name, problem)
        case _:
            _log.warning("%s: left open: %s", work.item.name, scrub(str(problem)))
    session.progress.count(**{"parked" if isinstance(problem, Parked) else "left_open": 1})


async def _again(session: Session, work: Work, ending: Ending) -> None:
    """Queue another attempt where the service failed without billing."""
    if ending.outcome not in {Outcome.FAILED, Outcome.NOT_CREATED} or work.attempt is None:
        return
    settled = await session.durably(session.journal.get, work.attempt.key, work.attempt.number)
    if not may_try_again(settled):
        return
    if work.tries >= ATTEMPT_CAP or not work.complete:
        session.progress.count(**{str(ending.outcome): -1, "left_open": 1})  # for the next run to try
    else:
        session.progress.count(**{str(ending.outcome): -1, "tried_again": 1})  # the row has not ended yet
        session.again.put_nowait(
            Work(
                work.item,
                work.place,
                settled.number + 1,
                wait_s=delay(settled.number, base_s=5.0),
                tries=work.tries + 1,
            )
        )
