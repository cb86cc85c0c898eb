"""Brings settled attempts from the journal into the ledger, each once, whatever crashes in between."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wanbatch.journal import Journal
    from wanbatch.ledger import Ledger


def write_settled(journal: Journal, ledger: Ledger, run_id: str) -> None:
    """Write what this run, and runs that have ended, settled and did not write.

    The journal first gives the rows the name of their file, for good; a crash after that leads to the same file
    again. It is marked as written only when the totals have it too. Raises `LedgerError` or `JournalError`;
    nothing is lost then, and the next call goes on.
    """
    for owner in journal.unbatched_runs(run_id):
        while journal.take_batch(owner, f"{owner}-{uuid.uuid4().hex[:8]}"):
            pass
    batches = journal.unwritten(run_id)
    for batch in batches:
        ledger.write_batch(batch)
    for owner in {batch.run_id for batch in batches}:  # nothing new: the totals stand as they are
        ledger.write_totals(owner, journal.settled_rows(owner))
    for batch in batches:
        journal.written(batch)
