"""Many small files of a day into one, without a moment at which a row is nowhere.

The merged file appears as a whole and names, in its metadata, the batches whose rows it has; only then are the others
removed. Ended in between, rows are there twice for readers that know nothing of that metadata; `wanbatch.ledger` reads
them once, and compacting again removes what was left. A batch that a crashed run writes again is known by its name.

Several compactions at once are as good as one: each merges all of a day that it finds, so that of two merged files
one has all that the other has, and the name of a merged file is made from what is in it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wanbatch.ledger.reading import SWALLOWED_KEY, has_batches, list_files, read_files
from wanbatch.ledger.schema import ATTEMPTS

if TYPE_CHECKING:
    from wanbatch.ledger.folders import Folder

_ORDER = [("settled_at", "ascending"), ("key", "ascending"), ("attempt", "ascending")]


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did."""

    days: int
    """Days that were merged or cleared up."""
    files_before: int
    files_after: int


def compact_attempts(folder: Folder, *, more_than: int = 0) -> Compaction:
    """Merge the files of every day that has `more_than` so many of them.

    Raises `LedgerError`, and what was merged until then stays so.
    """
    before = folder.names()
    days = Counter(name.rpartition("/")[0] for name in before if name.startswith("date="))
    touched = [_compact_day(folder, day) for day, files in sorted(days.items()) if files > more_than]
    return Compaction(days=sum(touched), files_before=len(before), files_after=len(folder.names()))


def _compact_day(folder: Folder, day: str) -> bool:
    try:
        return _merge(folder, day)
    except FileNotFoundError:
        return True  # another compaction removed a file that was listed: this day is in its hands


def _merge(folder: Folder, day: str) -> bool:
    listing = list_files(folder, ATTEMPTS, day)
    folder.remove([file.name for file in listing.left_behind])
    if len(listing.files) <= 1:
        return bool(listing.left_behind)
    batches = sorted(frozenset[str]().union(*(file.batches for file in listing.files)))
    table = read_files(folder, listing.files, ATTEMPTS, ATTEMPTS.names).sort_by(_ORDER)
    digest = hashlib.sha256("\n".join(batches).encode()).hexdigest()
    name = f"{day}/merged-{digest[:32]}.parquet"
    folder.publish(
        name,
        table.replace_schema_metadata(ATTEMPTS.metadata | {SWALLOWED_KEY: json.dumps(batches)}),
        superseded=lambda names: has_batches(folder, names, batches, but=name),
        instead_of=[file.name for file in listing.files],
    )
    return True
