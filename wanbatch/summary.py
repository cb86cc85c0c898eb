"""What a run came to."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from wanbatch.errors import ExitCode, LedgerError
from wanbatch.journal import Outcome, State
from wanbatch.journal.schema import shown
from wanbatch.ledger import add_up
from wanbatch.progress import announce

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wanbatch.journal import Attempt
    from wanbatch.session import Session

_FAILED = ("failed", "refused", "cancelled", "expired", "failed_before")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The end of a run, for people and machines. Money in `currency`; None when the service has no rate card."""

    run_id: str
    exit_code: ExitCode
    reason: str | None
    """Why it stopped early."""
    rows: int
    """Of the manifest."""
    counts: Mapping[str, int]
    currency: str | None
    billed_s: Decimal
    cost: Decimal | None
    unknown_cost: int
    """How many paid attempts `cost` leaves out."""
    lost: int
    """Paid, or perhaps paid, and gone."""
    totals: tuple[Mapping[str, Any], ...]
    parked: tuple[Attempt, ...]
    ledger: str
    journal: str
    videos: str


tell: ContextVar[Callable[[Summary], None] | None] = ContextVar("tell", default=None)
"""Who is told first: the command line does not depend on Prefect to hand the summary back."""


async def summarise(session: Session) -> Summary:
    """Write the last of the ledger and the totals, and add up."""
    try:
        await session.flush()
    except LedgerError as error:  # the journal has it all: the next run writes it
        session.stop(str(error), ExitCode.INCOMPLETE)
    rows = await session.durably(lambda: add_up(session.run_id, session.journal.settled_rows(session.run_id)))
    service = session.service.name
    parked = await session.durably(session.journal.open_attempts, State.PARKED, service=service)
    counts = {name: number for name, number in sorted(session.progress.counts.items()) if number}
    summary = Summary(
        run_id=session.run_id,
        exit_code=exit_code(session, counts, parked=len(parked)),
        reason=session.stopped.reason if session.stopped else session.unfinished,
        rows=session.progress.rows,
        counts=counts,
        currency=session.rates.currency,
        billed_s=sum((row["billed_s"] for row in rows), Decimal(0)),
        cost=sum((row["cost"] for row in rows), Decimal(0)) if session.rates.currency else None,
        unknown_cost=sum(row["unknown_cost"] for row in rows),
        lost=sum(row["attempts"] for row in rows if row["status"] == Outcome.EXPIRED),
        totals=tuple(rows),
        parked=tuple(parked),
        ledger=session.options.ledger,
        journal=shown(session.options.journal_url),
        videos=session.options.videos,
    )
    announce("run.finished", summary.run_id, exit_code=int(summary.exit_code), **dict(summary.counts))
    if listener := tell.get():
        listener(summary)
    return summary


def exit_code(session: Session, counts: Mapping[str, int], *, parked: int) -> ExitCode:
    """Say in one number how it went: what needs a person first comes first."""
    stopped = session.stopped.exit_code if session.stopped else None
    if stopped is ExitCode.ACCOUNT_STOPPED:
        return stopped
    if parked:
        return ExitCode.PARKED
    if stopped is not None:
        return stopped
    if session.unfinished or counts.get("left_open") or counts.get("elsewhere"):
        return ExitCode.INCOMPLETE
    return ExitCode.SOME_FAILED if any(counts.get(name) for name in _FAILED) else ExitCode.OK
