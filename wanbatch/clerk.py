"""Brings settled attempts from the journal into the ledger, each once, whatever crashes in between."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any

from wanbatch.errors import LedgerError
from wanbatch.ledger import add_up

if TYPE_CHECKING:
    from wanbatch.journal import Journal
    from wanbatch.ledger import Ledger


_log = logging.getLogger(__name__)

_LOOSE = 100
"""So many files of a day are left as they are."""


class Clerk:
    """Keeps the ledger of one run, from its first attempt to its last."""

    def __init__(self, journal: Journal, ledger: Ledger, run_id: str) -> None:
        self._journal = journal
        self._ledger = ledger
        self._run_id = run_id
        # What its totals have so far. A batch never changes: none is added twice, or forgotten, after an error.
        self._added: set[str] = set()
        self._totals: list[dict[str, Any]] = []
        self._loose = 0

    def write_settled(self) -> None:
        """Write what this run, and runs that have ended, settled and did not write.

        The journal first gives the rows the name of their file, for good; a crash after that leads to the same file
        again. It is marked as written only when the totals have it too. Raises `LedgerError` or `JournalError`;
        nothing is lost then, and the next call goes on.
        """
        journal = self._journal
        for owner in journal.unbatched_runs(self._run_id):
            while journal.take_batch(owner, f"{owner}-{uuid.uuid4().hex[:8]}"):
                pass
        batches = journal.unwritten(self._run_id)
        for batch in batches:
            self._ledger.write_batch(batch)
        for owner in {batch.run_id for batch in batches}:  # nothing new: the totals stand as they are
            self._ledger.write_totals(owner, self._totals_of(owner))
        for batch in batches:
            journal.written(batch)
        self._loose += len(batches)
        if self._loose > _LOOSE:
            self._tidy()

    def _tidy(self) -> None:
        """Merge what has become many files: a run of days would leave thousands, and every reader opens them all."""
        self._loose = 0
        try:
            self._ledger.compact(more_than=_LOOSE)
        except LedgerError as error:  # the rows are all there, and that is what matters to a run
            _log.warning("the ledger could not be compacted: %s", error)

    def _totals_of(self, owner: str) -> list[dict[str, Any]]:
        if owner != self._run_id:  # it has ended: this is done once
            return add_up(owner, self._journal.settled_rows(owner))
        for batch in self._journal.batches_of(owner, but=self._added):
            self._totals = add_up(owner, batch.rows, onto=self._totals)
            self._added.add(batch.name)
        return self._totals


def write_settled(journal: Journal, ledger: Ledger, run_id: str) -> None:
    """Write what is settled, once; a run that goes on has a `Clerk`."""
    Clerk(journal, ledger, run_id).write_settled()
