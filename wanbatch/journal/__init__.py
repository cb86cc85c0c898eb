"""The durable record of what was about to happen and what happened: the state machine of an attempt.

    intended → sent → accepted → succeeded → stored → settled
                 └→ in_doubt → accepted | settled | parked

Every change is committed before the next thing is done in the world: the intent before the POST, the task_id
right after it. A change is a compare-and-set by the run that holds the attempt: two runs never act on one.
Money is kept as whole millionths, so that the database adds it up exactly.

Signatures of URLs and keys of accounts are never written here.
"""

from wanbatch.journal.batches import Batches
from wanbatch.journal.claims import Claims
from wanbatch.journal.records import Attempt, Batch, Cap, State
from wanbatch.journal.transitions import Transitions
from wanbatch.models import Outcome

__all__ = ["Attempt", "Batch", "Cap", "Journal", "Outcome", "State"]


class Journal(Claims, Transitions, Batches):
    """The journal of one ledger. Every method is one short transaction; call them one thread at a time."""
