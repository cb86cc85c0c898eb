"""What a person decides about attempts: journalled with who and when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from wanbatch.books import ledger_row
from wanbatch.catalogue import Verdict, rule
from wanbatch.clerk import write_settled
from wanbatch.client import WanClient
from wanbatch.errors import Refused, UsageError
from wanbatch.journal import Journal, Outcome, State
from wanbatch.journal.schema import shown
from wanbatch.ledger import Ledger
from wanbatch.pace import SystemClock
from wanbatch.settings import api_key, find_service
from wanbatch.watch import account_stopped

if TYPE_CHECKING:
    from pathlib import Path

    from wanbatch.journal import Attempt


def adopt_task(journal: Journal, attempt: Attempt, task_id: str, *, who: str) -> None:
    """Take a provider task for this attempt's; raises `UsageError` when it is another's already."""
    if journal.known_tasks([task_id]):
        raise UsageError(f"task {task_id} belongs to another attempt already")
    journal.adopted(
        attempt, task_id=task_id, submitted_at=attempt.sent_at, who=who, why=f"adopted task {task_id}"
    )


def declare_not_created(journal: Journal, where: str | Path, attempt: Attempt, *, who: str) -> None:
    """Settle an attempt as one that made nothing, and write its ledger row."""
    now = datetime.now(UTC)
    row = ledger_row(
        attempt,
        Outcome.NOT_CREATED,
        service=find_service(attempt.service, environment={}),
        rate=None,
        code="NotCreated",
        message=f"{who} says so",
        settled_at=now,
    )
    journal.settled(
        attempt, Outcome.NOT_CREATED, row=row, cost=row["cost"], who=who, code="NotCreated", settled_at=now
    )
    ledger = Ledger(where)
    ledger.prepare()
    write_settled(journal, ledger, attempt.run_id)


async def cancel_waiting(journal: Journal, name: str | None, key_variable: str) -> tuple[int, int]:
    """Ask the service to cancel every open edit; says how many it did, and how many it could not."""
    service = find_service(name)
    client = WanClient(service, api_key(key_variable), clock=SystemClock())
    cancelled, running = 0, 0
    try:
        for attempt in journal.open_attempts(State.ACCEPTED, service=service.name):
            try:
                await client.cancel(str(attempt.task_id))
                cancelled += 1
            except Refused as error:
                if rule(error.http_status, error.code, error.message).verdict is Verdict.STOP_RUN:
                    raise account_stopped(error) from None
                if error.code != "UnsupportedOperation":
                    raise
                running += 1
    finally:
        await client.aclose()
    return cancelled, running


def restore_journal(url: str, where: str | Path) -> tuple[int, datetime]:
    """Rebuild a lost journal from the ledger; says how many attempts it knows now, and until when.

    What was open when the journal was lost is not in the ledger. Raises `UsageError` where there is a journal
    already, `LedgerError` where there is no ledger.
    """
    rows = Ledger(where).read_attempts().to_pylist()
    journal = Journal.open(url)
    try:
        if not journal.is_empty():
            raise UsageError(f"{shown(url)}: there is a journal here; move it away first, and keep it")
        return journal.restore(rows), max(row["settled_at"] for row in rows)
    finally:
        journal.close()
