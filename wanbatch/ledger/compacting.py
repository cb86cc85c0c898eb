"""Many small files of a day into one, without a moment at which a row is nowhere.

The merged file is written whole under a hidden name and names, in its metadata, the files it takes over. Then,
with the folder locked, it is moved into place, and only then are the others removed. Ended in between, rows are
there twice for readers that know nothing of that metadata; `wanbatch.ledger` reads them once, and compacting
again removes what was left. A batch that a crashed run writes again is known by its name, and is left out.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from wanbatch.ledger.files import clear_errors, locked, publish, sync_folder, whole
from wanbatch.ledger.reading import SWALLOWED_KEY, list_folder, table_of
from wanbatch.ledger.schema import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wanbatch.ledger.reading import LedgerFile

_ORDER = [("settled_at", "ascending"), ("key", "ascending"), ("attempt", "ascending")]
_PREFIX = "merged-"


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did."""

    days: int
    """Days that were merged or cleared up."""
    files_before: int
    files_after: int


def compact_attempts(folder: Path) -> Compaction:
    """Merge the files of every day; raises `LedgerError`, and what was merged until then stays so."""
    days = sorted(day for day in folder.glob("date=*") if day.is_dir())
    counts = [(_count(day), _compact_day(day, folder), _count(day)) for day in days]
    return Compaction(
        days=sum(touched for _, touched, _ in counts),
        files_before=sum(before for before, _, _ in counts),
        files_after=sum(after for _, _, after in counts),
    )


def swallowed(day: Path, name: str) -> bool:
    """Say whether a merged file of this day has a batch's rows already."""
    return any(
        name in json.loads(pq.read_metadata(path).metadata.get(SWALLOWED_KEY.encode(), b"[]"))
        for path in day.glob(f"{_PREFIX}*.parquet")
    )


def _compact_day(day: Path, folder: Path) -> bool:
    try:
        return _merge(day, folder)
    except FileNotFoundError:
        return True  # another compaction removed a file that was listed: this day is in its hands


def _merge(day: Path, folder: Path) -> bool:
    listing = list_folder(day, ATTEMPTS)
    with clear_errors(day), locked(folder):
        _remove(listing.left_behind)
    if len(listing.files) <= 1:
        return bool(listing.left_behind)
    files = listing.files
    names = sorted({file.path.stem for file in files}.union(*(file.swallowed for file in files)))
    table = pa.concat_tables(table_of(file, ATTEMPTS) for file in files).sort_by(_ORDER)
    table = table.replace_schema_metadata(ATTEMPTS.metadata | {SWALLOWED_KEY: json.dumps(names)})
    path = day / f"{_PREFIX}{uuid.uuid4().hex}.parquet"
    with whole(table, path) as temporary, locked(folder):
        if not all(file.path.exists() for file in files):
            return True  # another compaction was faster
        publish(temporary, path)
        _remove(files)
    return True


def _remove(files: Sequence[LedgerFile]) -> None:
    for file in files:
        file.path.unlink(missing_ok=True)
    for folder in {file.path.parent for file in files}:
        sync_folder(folder)


def _count(day: Path) -> int:
    return sum(1 for _ in day.glob("[!._]*.parquet"))
