"""Holds what a run says against what the service says: journal, ledger, videos; tasks and bill.

The service's own books are the truth. Every promise is a check here, made for every seed and every crash.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import sqlalchemy as sa

from wanbatch.identity import without_signature
from wanbatch.journal import Attempt, Journal, Outcome, State, schema
from wanbatch.ledger import Ledger
from wanbatch.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.conftest import Account
    from wanbatch.models import EditRequest, Item

Edit = tuple[str, str, str, int]
"""What makes two tasks the same edit: video, prompt, resolution, duration."""


@dataclass(frozen=True)
class Books:
    """Both sides' books, read once everything has come to rest."""

    folder: Path
    """Where the runs had their working directory."""
    items: list[Item]
    attempts: list[Attempt]
    rows: list[dict[str, Any]]
    """Of the ledger."""
    totals: list[dict[str, Any]]
    tasks: dict[str, dict[str, Any]]
    """The service's, by id."""
    bill: dict[str, dict[str, Any]]
    """What it charged for, by task."""
    strangers: set[str]

    @property
    def parked(self) -> list[Attempt]:
        """What is left to a person."""
        return [attempt for attempt in self.attempts if attempt.state is State.PARKED]

    @property
    def ours_billed(self) -> dict[str, dict[str, Any]]:
        """What the service charged for our tasks."""
        return {task_id: row for task_id, row in self.bill.items() if task_id not in self.strangers}

    @property
    def paid_twice(self) -> Counter[Edit]:
        """Edits that were charged more often than the manifest asks for them."""
        wanted = Counter(_of_request(item.request) for item in self.items)
        return Counter(_of_task(self.tasks[task_id]) for task_id in self.ours_billed) - wanted

    @property
    def lost(self) -> Counter[Edit]:
        """Edits that were charged, and neither have a ledger row nor are parked."""
        parked = Counter(_of_request(attempt.item.request) for attempt in self.parked)
        return Counter(_of_task(self.tasks[task_id]) for task_id in self._unentered) - parked

    @property
    def difference(self) -> Decimal:
        """What the ledger has more, or less, than the bill; charges of parked attempts are left aside."""
        aside = sum((Decimal(row["cost"]) for row in self._unentered.values()), Decimal(0))
        return spent(self.rows) - (billed(self) - aside)

    @property
    def _unentered(self) -> dict[str, dict[str, Any]]:
        held = {row["task_id"] for row in self.rows}
        return {task_id: row for task_id, row in self.ours_billed.items() if task_id not in held}

    def figures(self) -> dict[str, str]:
        """Give what `make crash` adds up."""
        return {
            "in doubt": str(sum(attempt.doubted_at is not None for attempt in self.attempts)),
            "adopted": str(sum(attempt.adopted for attempt in self.attempts)),
            "parked": str(len(self.parked)),
            "billed": str(billed(self)),
            "duplicates": str(self.paid_twice.total()),
            "lost": str(self.lost.total()),
            "difference": str(abs(self.difference)),
        }


def read_books(account: Account, manifest: Path, folder: Path, *, journal: Path | str) -> Books:
    """Read everything."""
    tasks = {task["task_id"]: task for task in account.get("tasks")["tasks"]}
    ledger = Ledger(folder / "ledger")
    return Books(
        folder=folder,
        items=list(read_manifest(manifest)),
        attempts=read_attempts(journal),
        rows=ledger.read_attempts().to_pylist(),
        totals=ledger.read_totals().to_pylist(),
        tasks=tasks,
        bill={row["task_id"]: row for row in account.bill()},
        strangers={task_id for task_id, task in tasks.items() if task["who"] == "stranger"},
    )


def read_attempts(journal: Path | str) -> list[Attempt]:
    """Read every attempt of a journal, open or settled."""
    opened = Journal.open(journal)
    try:
        with opened._read() as db:
            keys = db.execute(sa.select(schema.attempts.c.key, schema.attempts.c.number)).all()
        return [opened.get(key, number) for key, number in keys]
    finally:
        opened.close()


def check(books: Books, *, cap: Decimal | None = None, untouched: bool = False) -> None:
    """Make every check. `untouched`: a budget may have left rows without an attempt."""
    _nothing_is_paid_twice(books)
    _nothing_paid_is_lost(books)
    _the_ledger_is_the_bill(books)
    _the_totals_are_the_ledger(books)
    _every_row_is_accounted_for(books, untouched=untouched)
    _every_video_is_there(books)
    if cap is not None:
        _the_cap_holds(books, cap)


def _nothing_is_paid_twice(books: Books) -> None:
    """See that no edit was charged more often than the manifest asks for it, and no task of others was taken."""
    assert not books.paid_twice
    ours = {attempt.task_id for attempt in books.attempts if attempt.task_id}
    assert not ours & books.strangers, "adopted a stranger's task"
    assert ours <= books.tasks.keys()
    for attempt in books.attempts:
        if attempt.task_id:
            assert _of_task(books.tasks[attempt.task_id]) == _of_request(attempt.item.request), (
                f"{attempt.item.name} has another edit's task"
            )


def _nothing_paid_is_lost(books: Books) -> None:
    """See that every charge for a task of ours has its one ledger row, or belongs to an attempt that is parked."""
    held = Counter(row["task_id"] for row in books.rows if row["task_id"])
    assert not [task_id for task_id, count in held.items() if count > 1], "a task has two ledger rows"
    assert not books.lost


def _the_ledger_is_the_bill(books: Books) -> None:
    """See that seconds and money of every ledger row are those of the bill, to the last decimal."""
    for row in books.rows:
        charge = books.bill.get(row["task_id"])
        if row["status"] == Outcome.SUCCEEDED:
            assert charge, f"{row['id']} succeeded and was not charged"
            assert row["billed_s"] == Decimal(charge["billed_s"])
            assert row["cost"] == Decimal(charge["cost"])
            assert row["currency"] == charge["currency"]
        else:
            assert charge is None, f"{row['id']} is {row['status']} and was charged"
            assert row["cost"] == 0
    assert books.difference == 0
    settled = {(attempt.key, attempt.number) for attempt in books.attempts if not attempt.open}
    assert sorted((row["key"], row["attempt"]) for row in books.rows) == sorted(settled)


def _the_totals_are_the_ledger(books: Books) -> None:
    """See that the totals of all runs add up to the attempts."""
    assert sum(total["attempts"] for total in books.totals) == len(books.rows)
    assert sum((total["cost"] for total in books.totals), Decimal(0)) == spent(books.rows)
    by_run = Counter(row["run_id"] for row in books.rows)
    assert by_run == sum((Counter({t["run_id"]: t["attempts"]}) for t in books.totals), Counter[str]())


def _every_row_is_accounted_for(books: Books, *, untouched: bool) -> None:
    """See that every row has an attempt, each is settled or parked, and none follows one that was paid."""
    of_key: dict[str, list[Attempt]] = {}
    for attempt in books.attempts:
        assert attempt.state in {State.SETTLED, State.PARKED}, f"{attempt.item.name} is {attempt.state}"
        of_key.setdefault(attempt.key, []).append(attempt)
    missing = [item.name for item in books.items if item.key not in of_key]
    assert untouched or not missing, f"never tried: {missing}"
    for tries in of_key.values():
        tries.sort(key=lambda attempt: attempt.number)
        assert [attempt.number for attempt in tries] == list(range(1, len(tries) + 1))
        for earlier in tries[:-1]:
            unpaid = {Outcome.FAILED, Outcome.NOT_CREATED}
            assert earlier.outcome in unpaid, f"{earlier.item.name} was tried again after {earlier.outcome}"


def _every_video_is_there(books: Books) -> None:
    """See that every success has a file of its own, whole, readable and as long as what was paid for."""
    outputs = [row["output"] for row in books.rows if row["status"] == Outcome.SUCCEEDED]
    assert len(set(outputs)) == len(outputs), "two rows have one file"
    for row in books.rows:
        if row["status"] != Outcome.SUCCEEDED:
            continue
        path = books.folder / row["output"]
        content = path.read_bytes()
        assert len(content) == row["output_bytes"]
        assert hashlib.sha256(content).hexdigest() == row["output_sha256"]
        with av.open(path) as video:
            assert video.duration is not None
            assert abs(video.duration / 1_000_000 - float(row["output_video_s"])) < 0.5


def _the_cap_holds(books: Books, cap: Decimal) -> None:
    """See that the charges never passed the cap, and would not have if all that is open cost the worst."""
    assert billed(books) <= cap
    reserved = sum((attempt.reserved or Decimal(0) for attempt in books.attempts if attempt.open), Decimal(0))
    assert spent(books.rows) + reserved <= cap


def billed(books: Books) -> Decimal:
    """Add up what the service charged us."""
    return sum((Decimal(row["cost"]) for row in books.ours_billed.values()), Decimal(0))


def spent(rows: Iterable[Mapping[str, Any]]) -> Decimal:
    """Add up what the ledger says."""
    return sum((row["cost"] for row in rows), Decimal(0))


def _of_task(task: Mapping[str, Any]) -> Edit:
    parameters = task["parameters"]
    return (
        without_signature(task["video"]),
        task["prompt"],
        parameters["resolution"],
        int(parameters["duration"]),
    )


def _of_request(request: EditRequest) -> Edit:
    return (
        without_signature(request.video),
        request.prompt or "",
        str(request.resolution),
        request.duration,
    )
