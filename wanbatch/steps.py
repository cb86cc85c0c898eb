"""The four steps of an edit, each a plain coroutine; `tasks/` makes Prefect tasks of them.

`Work` → `Submission` (the service has it) → `Edit` (the service finished it) → `Delivery` (the video is ours).
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from wanbatch import telemetry
from wanbatch.books import cost_of, ledger_row
from wanbatch.catalogue import Throttle, Verdict, rule
from wanbatch.errors import (
    AccountStopped,
    BadAnswer,
    DownloadError,
    EditCancelled,
    EditExpired,
    EditFailed,
    LeftOpen,
    NeverSent,
    NotCreated,
    ProbeError,
    Refused,
    StorageError,
    SubmitInDoubt,
    UsageError,
    WanbatchError,
)
from wanbatch.journal import Outcome, State
from wanbatch.models import TaskStatus
from wanbatch.naming import output_name
from wanbatch.pace import delay
from wanbatch.pricing import worst_seconds
from wanbatch.progress import announce
from wanbatch.redact import scrub
from wanbatch.watch import TASK_LIFE, account_stopped
from wanbatch.wire import url_expiry

if TYPE_CHECKING:
    from datetime import datetime

    from wanbatch.journal import Attempt
    from wanbatch.models import TaskReport, Usage
    from wanbatch.pace import Clock
    from wanbatch.pricing import Rate
    from wanbatch.session import Session, Work
    from wanbatch.storage import Stored
    from wanbatch.wire import Accepted

_log = logging.getLogger(__name__)

_DOWNLOAD_TRIES = 8
_STRICT_TRIES = 3
"""A whole video that comes with the wrong length so often is what the service made: kept, and flagged."""
_SUSPENDED = timedelta(seconds=20)
"""A commit and a connection that seem to take so long were a machine asleep: another run may have taken over, which
the journal says when it is told that nothing was sent."""
_EXPIRY_RISK = timedelta(hours=4)
"""So long before a result is gone somebody should know that it can't be fetched."""
_LATE = timedelta(hours=1)
_UNREACHABLE_S = 1800.0
"""How long an address may not answer before a run gives up; nothing is sent meanwhile, so nothing is lost."""
_SPACING_S = 5.0
"""No submit follows an unanswered one at once: what each of them may have made stays apart in time."""
_UNKNOWN_AGAIN_S = 600.0
"""So long after a task could not be seen, it is asked for again."""
_FRAMES_S = Decimal("0.2")
"""An output may last a frame or two longer than its input."""
_FAR_FROM_EXPECTED = Decimal("1.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The service has the item."""

    work: Work
    task_id: str
    submitted_at: datetime

    @property
    def name(self) -> str:
        """What people call the item."""
        return self.work.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """The service finished it."""

    submission: Submission
    report: TaskReport

    @property
    def name(self) -> str:
        """What people call the item."""
        return self.submission.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The video is ours, whole and checked."""

    edit: Edit
    output: str
    size: int
    sha256: str
    note: str = ""
    """What is odd about it, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended."""

    outcome: Outcome
    code: str = ""
    message: str = ""


# ------------------------------------------------------------------------------------------------ submit


async def submit(session: Session, work: Work) -> Submission:
    """Make sure that the service has the item: take up its open attempt, or submit a new one, once.

    Raises what ends the attempt: `Refused`, `NotCreated`, `Parked`; or what leaves it for later: `LeftOpen`,
    `BudgetReached`, `ClaimLost`, `AccountStopped`, `StorageError`.
    """
    attempt = work.attempt
    if attempt is None:
        if work.wait_s:
            await session.pause(work.wait_s)
        attempt = work.attempt = await _claim(session, work)
    if attempt.state is State.INTENDED:
        try:
            attempt = work.attempt = await _send(session, work, attempt)
        except (LeftOpen, AccountStopped, BadAnswer, NeverSent, StorageError, UsageError):
            await session.durably(session.journal.withdrawn, attempt)
            session.progress.reserved -= attempt.reserved or Decimal(0)
            raise
    if attempt.state is State.IN_DOUBT:
        work.place.arrived()
        attempt = work.attempt = await session.reconciler.settle(attempt)
    work.place.arrived()
    if attempt.task_id is None:
        raise AssertionError(f"{attempt.state} without a task_id")
    return Submission(
        work=work, task_id=attempt.task_id, submitted_at=attempt.submitted_at or attempt.intended_at
    )


async def _claim(session: Session, work: Work) -> Attempt:
    """Look at the inputs, and intend the attempt with its worst cost reserved."""
    session.check_going()
    request = work.item.request
    input_s = await session.input_seconds(work.item) if session.options.probe else None
    rate = session.rates.rate(request.resolution, session.clock.now().date())
    worst = reserve(rate, input_s, request.duration) if rate else None
    attempt = await session.affordably(
        session.journal.claim,
        session.run_id,
        work.item,
        service=session.service.name,
        manifest=session.options.manifest,
        number=work.number,
        reserve=worst,
        currency=rate.currency if rate else None,
        input_s=input_s,
        caps=session.caps,
    )
    session.progress.reserved += attempt.reserved or Decimal(0)
    return attempt


def reserve(rate: Rate, input_s: Decimal | None, duration: int) -> Decimal:
    """Give the worst that one edit can cost, to be reserved before it is submitted; see `worst_seconds`."""
    return rate.cost(worst_seconds(input_s, duration) + _FRAMES_S)


async def _send(session: Session, work: Work, attempt: Attempt) -> Attempt:
    """Send the POST until there is an outcome; only what never arrived or was turned away is sent again."""
    started = session.clock.monotonic()
    for tries in itertools.count(1):
        media = await session.media.reachable(work.item)
        await session.client.submits.wait()
        session.check_going()
        claimed = session.clock.now()  # goes on while a machine sleeps; the monotonic clock of Linux does not
        attempt = work.attempt = await session.durably(
            session.journal.sent,
            attempt,
            service_time=session.client.clock.last_seen,
            service_sent_at=session.client.clock.now(),
        )
        try:
            awake = partial(_awake, session.clock, claimed)
            accepted = await session.client.submit(work.item.request, media, in_time=awake)
        except NeverSent as error:
            attempt = work.attempt = await session.durably(session.journal.unsent, attempt)
            if session.clock.monotonic() - started > _UNREACHABLE_S:
                raise
            session.trouble(str(error))
            await session.pause(delay(tries))
        except Refused as error:
            attempt = work.attempt = await _turned_away(session, work, attempt, error, tries)
        except SubmitInDoubt as error:
            session.client.submits.back_off(_SPACING_S)
            _log.warning("%s: submit in doubt: %s", work.item.name, scrub(str(error)))
            return await session.durably(
                session.journal.in_doubt, attempt, why=scrub(str(error)), request_id=error.request_id
            )
        else:
            return await _accept(session, attempt, accepted)
    raise AssertionError("unreachable")


def _awake(clock: Clock, since: datetime) -> bool:
    return clock.now() - since < _SUSPENDED


async def _accept(session: Session, attempt: Attempt, accepted: Accepted) -> Attempt:
    session.progress.count(submitted=1)
    return await session.durably(
        session.journal.accepted,
        attempt,
        task_id=accepted.task_id,
        request_id=accepted.request_id,
        submitted_at=session.client.clock.now(),
    )


async def _turned_away(session: Session, work: Work, attempt: Attempt, error: Refused, tries: int) -> Attempt:
    """Wait out a refusal that asks for patience; raise every other."""
    ruling = rule(error.http_status, error.code, error.message)
    if ruling.verdict is Verdict.STOP_RUN:
        await session.durably(session.journal.unsent, attempt)
        raise account_stopped(error)
    if ruling.verdict not in {Verdict.THROTTLED, Verdict.TRANSIENT}:
        raise error
    attempt = await session.durably(session.journal.unsent, attempt)
    seconds = delay(tries, retry_after_s=error.retry_after_s, wait_max_s=60.0)
    if _by_number(session, ruling.throttle, tries):  # nothing was too fast: wait until one of ours has ended
        session.window.refused()
        work.place.leave()
        await session.pause(delay(1, retry_after_s=error.retry_after_s, wait_max_s=60.0))
        work.place = await session.window.enter(first=True)
        return attempt
    session.client.submits.slow_down(ruling.throttle.slower if ruling.throttle else 1.0, after_s=seconds)
    await session.pause(seconds)
    return attempt


def _by_number(session: Session, throttle: Throttle | None, tries: int) -> bool:
    """Say whether a submit was refused for the number of edits at the service, also where the words don't say so.

    A submit that comes after a pause and is refused again is not too fast.
    """
    if throttle is Throttle.CONCURRENCY:
        return True
    return (
        throttle is Throttle.RATE and tries > 1 and session.window.at_service >= session.service.limits.slots
    )


# -------------------------------------------------------------------------------------------------- wait


async def wait(session: Session, submission: Submission) -> Edit:
    """Wait until the service has finished, and keep what it counted.

    Raises `EditFailed`, `EditExpired`, or `LeftOpen` when this run can't see the end of it.
    """
    taken_up = _attempt_of(submission)
    known_done = taken_up.state is State.SUCCEEDED
    report = await _ended(session, submission, known_done=known_done)
    if report.status is TaskStatus.SUCCEEDED:
        submission.work.attempt = await session.durably(session.journal.succeeded, taken_up, report)
        return Edit(submission=submission, report=report)
    if report.status is TaskStatus.FAILED:
        raise EditFailed(report.code, scrub(report.message))
    if report.status is TaskStatus.CANCELED:
        raise EditCancelled(
            report.code or "Canceled", scrub(report.message) or "cancelled while it was waiting"
        )
    if _is_over(session, submission):
        raise EditExpired(f"task {submission.task_id} is gone after 24 hours; it may have been billed")
    raise LeftOpen(f"the service does not know task {submission.task_id} just now")


async def _ended(session: Session, submission: Submission, *, known_done: bool) -> TaskReport:
    """Wait for the end of a task, also of one that can't be seen for a while: a run may outlast its result."""
    while True:
        report = await session.watcher.wait(submission.task_id, submission.submitted_at, ask_first=known_done)
        if report.status is not TaskStatus.UNKNOWN or _is_over(session, submission):
            return report
        submission.work.place.leave()
        if not await session.linger(_UNKNOWN_AGAIN_S):
            return report


def _is_over(session: Session, submission: Submission) -> bool:
    return session.client.clock.now() - submission.submitted_at >= TASK_LIFE


def _attempt_of(submission: Submission) -> Attempt:
    if submission.work.attempt is None:
        raise AssertionError("a submission without an attempt")
    return submission.work.attempt


# ---------------------------------------------------------------------------------------------- download


async def download(session: Session, edit: Edit) -> Delivery:
    """Fetch the video while the service still has it; those that expire first go first.

    A result that can't be had is asked for again with a fresh URL, and never made again while its task lives.
    Raises `EditExpired` when it is gone, `DownloadError` or `StorageError` when it is left for the next run.
    """
    work, report = edit.submission.work, edit.report
    attempt = _attempt_of(edit.submission)
    deadline, _ = _deadlines(edit)
    async with session.downloads.enter(deadline):
        for tries in itertools.count(1):
            try:
                stored = await _fetched(session, work, report, strict=tries < _STRICT_TRIES)
            except DownloadError as error:
                report = await _another_url(session, edit, error, tries)
            else:
                break
    work.attempt = await session.durably(
        session.journal.stored, attempt, output=stored.output, size=stored.size, sha256=stored.sha256
    )
    return Delivery(edit=edit, output=stored.output, size=stored.size, sha256=stored.sha256, note=stored.note)


def _deadlines(edit: Edit) -> tuple[datetime, datetime]:
    """Say until when the result can surely be had, and after when it surely can't.

    A task lives 24 hours from its submit or, by another of the vendor's pages, from its end; the URL says for itself.
    """
    life = (edit.report.submitted_at or edit.submission.submitted_at) + TASK_LIFE
    expiry = url_expiry(edit.report.video_url or "") or life
    return min(life, expiry), max(life, expiry) + _LATE


async def _fetched(session: Session, work: Work, report: TaskReport, *, strict: bool) -> Stored:
    name = output_name(work.item, session.names)
    if report.video_url is None:
        raise DownloadError(f"{name}: the service gives no result URL")
    seconds = report.usage.output_video_s if report.usage else None
    return await session.store.fetch(
        report.video_url, name, key=work.item.key, task_id=report.task_id, seconds=seconds, strict=strict
    )


async def _another_url(session: Session, edit: Edit, error: DownloadError, tries: int) -> TaskReport:
    """Decide whether a failed download is worth another go, wait, and ask for a fresh URL."""
    deadline, gone = _deadlines(edit)
    if deadline - session.client.clock.now() < _EXPIRY_RISK:
        announce("expiry.risk", edit.name, task_id=edit.submission.task_id, deadline=deadline.isoformat())
    _log.warning("%s: %s", edit.submission.work.item.name, scrub(str(error)))
    if tries >= _DOWNLOAD_TRIES and session.client.clock.now() > gone:
        raise EditExpired(f"paid and lost: {scrub(str(error))}")
    if tries >= _DOWNLOAD_TRIES:
        raise error
    await session.pause(delay(tries))
    try:
        report = await session.client.query(edit.submission.task_id)
    except (BadAnswer, NeverSent, Refused):
        return edit.report
    if report.status is TaskStatus.UNKNOWN and session.client.clock.now() > deadline:
        raise EditExpired(f"paid and lost: task {edit.submission.task_id} is gone")
    return report if report.video_url else edit.report


# ------------------------------------------------------------------------------------------------ record


async def record(session: Session, work: Work, ending: Ending) -> None:
    """Settle an attempt: price it, and keep its one ledger row in the journal until it is in the ledger."""
    if work.attempt is None:
        work.attempt = await session.durably(
            session.journal.claim,
            session.run_id,
            work.item,
            service=session.service.name,
            manifest=session.options.manifest,
            number=work.number,
        )
    attempt = await session.durably(session.journal.get, work.attempt.key, work.attempt.number)
    now = session.clock.now()
    rate = session.rates.rate(work.item.request.resolution, (attempt.submitted_at or now).date())
    ending = _flagged(attempt, ending)
    row = ledger_row(
        attempt,
        ending.outcome,
        service=session.service,
        rate=rate,
        code=ending.code,
        message=ending.message,
        settled_at=now,
    )
    cost = cost_of(attempt, ending.outcome, rate)
    await session.durably(
        session.journal.settled,
        attempt,
        ending.outcome,
        row=row,
        cost=cost,
        code=ending.code or None,
        message=row["message"],
        settled_at=now,
    )
    session.news = True
    session.progress.count(**{str(ending.outcome): 1})
    session.progress.reserved -= attempt.reserved or Decimal(0)
    session.progress.spent += cost or Decimal(0)
    telemetry.settled(row)


def _flagged(attempt: Attempt, ending: Ending) -> Ending:
    """Flag a success that was billed far more than its input can explain; a vendor once billed 80 s as 10,272."""
    usage: Usage | None = attempt.usage
    if ending.outcome is not Outcome.SUCCEEDED or usage is None:
        return ending
    most = worst_seconds(attempt.input_s, attempt.item.request.duration)
    if usage.billed_s <= most * _FAR_FROM_EXPECTED + 1:
        return ending
    message = f"billed {usage.billed_s} s, where at most {most} s were expected; ask the provider"
    _log.warning("%s: %s", attempt.item.name, message)
    return Ending(outcome=ending.outcome, code="UsageUnexpected", message=message)


def ending_of(problem: WanbatchError) -> Ending | None:
    """Say how an attempt ended that met this problem; None when it has not ended."""
    if isinstance(problem, AccountStopped):
        return None
    for kind, outcome, code in _ENDINGS:
        if isinstance(problem, kind):
            told = problem if isinstance(problem, Refused | EditFailed) else None
            return Ending(
                outcome=outcome,
                code=told.code if told else code,
                message=scrub(told.message if told else str(problem)),
            )
    return None


_ENDINGS: tuple[tuple[type[WanbatchError], Outcome, str], ...] = (
    (Refused, Outcome.REFUSED, ""),
    (EditCancelled, Outcome.CANCELLED, ""),
    (EditFailed, Outcome.FAILED, ""),
    (EditExpired, Outcome.EXPIRED, "Expired"),
    (NotCreated, Outcome.NOT_CREATED, "NotCreated"),
    (ProbeError, Outcome.REFUSED, "ProbeFailed"),
)
