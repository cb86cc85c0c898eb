"""One manifest as several runs: ranges of its rows, times the accounts that edit them.

A row that names a service goes there. The others are spread over the accounts by the key of their item, so that
starting again with the same accounts sends each row where it was. And whatever the accounts, the journal that all
shards share has one attempt `number` of an item: no row is ever at two accounts.
"""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from wanbatch.errors import ManifestError, UsageError
from wanbatch.journal import Outcome
from wanbatch.manifest import check_manifest, read_rows
from wanbatch.manifest.findings import Findings
from wanbatch.manifest.sources import read_cells
from wanbatch.options import parse_budget
from wanbatch.pace import SystemClock
from wanbatch.settings import find_service

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wanbatch.journal import Journal
    from wanbatch.options import RunOptions


class Account(BaseModel):
    """One of the accounts of a migration. What is left out is as in the options of all runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: Annotated[
        str, Field(description="singapore, beijing or a URL; studio-b@singapore for a second account")
    ]
    key_variable: Annotated[
        str | None, Field(description="Environment variable that holds this account's key")
    ] = None
    key_block: Annotated[str | None, Field(description="Prefect Secret block that holds it")] = None
    shared_slots: Annotated[
        str | None, Field(description="Prefect global concurrency limit that holds its slots")
    ] = None
    slots: Annotated[int | None, Field(ge=1)] = None
    submit_rate: Annotated[float | None, Field(gt=0)] = None
    query_rate: Annotated[float | None, Field(gt=0)] = None
    rate_card: str | None = None


def shards_of(
    options: RunOptions, accounts: Sequence[Account], *, rows: int, shards: int
) -> list[RunOptions]:
    """Give the options of every run: `shards` ranges of the rows for each account, every account's first range first.

    Raises `UsageError` for what would not hold over several runs.
    """
    if options.limit is not None or options.rows or options.share:
        raise UsageError("limit, rows and share are for one run; a migration takes the whole manifest")
    if options.budget and parse_budget(options.budget, SystemClock().now())[1] is None:
        raise UsageError(
            f"the budget {options.budget} is for one run, and a migration is many; write {options.budget}/month"
        )
    given = [account.model_dump(exclude_none=True) for account in accounts] or [{}]
    every = [options.model_copy(update=mine) for mine in given]
    names = Counter(find_service(mine.service).name for mine in every)
    if twice := [name for name, count in names.items() if count > 1]:
        raise UsageError(f"two accounts are called {twice[0]}; write studio-b@{twice[0]} for the second")
    if shards > 1 and (alone := [mine for mine in every if not mine.shared_slots]):
        raise UsageError(
            f"{shards} runs at once on {alone[0].service}: name the limit that holds its slots in shared_slots, or "
            "take one shard"
        )
    return [
        mine.model_copy(
            update={
                "rows": f"{first}-{last}",
                "share": f"{part}/{len(every)}" if len(every) > 1 else None,
            }
        )
        for first, last in _ranges(rows, shards)
        for part, mine in enumerate(every, start=1)
    ]


def _ranges(rows: int, shards: int) -> Iterator[tuple[int, int]]:
    """Cut rows into so many ranges that differ by one row at most."""
    bounds = [rows * number // shards for number in range(shards + 1)]
    for before, last in itertools.pairwise(bounds):
        if last > before:
            yield before + 1, last


def count_rows(options: RunOptions, accounts: Sequence[Account]) -> int:
    """Check a manifest and count its rows; raises `UsageError` when one is for a service that takes no part."""
    path = Path(options.manifest)
    report = check_manifest(path)
    if report.problems:
        raise ManifestError(f"{path}: nothing was submitted", report.problems)
    services: list[str | None] = [account.service for account in accounts] or [options.service]
    known = {name for service in services for name in (service, find_service(service).name) if name}
    if strange := _services(path) - known - {""}:
        raise UsageError(
            f"{path}: a row names the service {min(strange)}, which takes no part; it has to be one of "
            f"{', '.join(sorted(known))}"
        )
    return report.rows


def _services(path: Path) -> set[str]:
    """Name every service that a row names."""
    named = set[str]()
    for cells in read_cells(path, Findings()):
        if "service" in cells.columns:
            named.update(pc.unique(cells.columns["service"]).to_pylist())
    return named


def standings(options: RunOptions, journal: Journal) -> Counter[str]:
    """Count a manifest's items by how they stand in the journal: an outcome, `open`, or `not begun`."""
    counts = Counter[str]()
    seen = set[bytes]()
    for rows in read_rows(Path(options.manifest)):
        fresh = {key for key in rows.keys if bytes.fromhex(key) not in seen}
        seen.update(map(bytes.fromhex, fresh))
        latest = journal.latest(fresh)
        for key in fresh:
            last = latest.get(key)
            counts["not begun" if last is None else "open" if last.open else str(last.outcome)] += 1
    return counts


LEFT = frozenset({"open", "not begun", str(Outcome.NOT_CREATED)})
"""Standings of items that another run goes on with."""
