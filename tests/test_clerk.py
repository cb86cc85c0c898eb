"""From the journal into the ledger: each row once, wherever it crashes."""

from __future__ import annotations

import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.rows import a_row
from wanbatch import clerk
from wanbatch.clerk import Clerk, write_settled
from wanbatch.errors import LedgerError
from wanbatch.journal import Batch, Journal, Outcome
from wanbatch.ledger import Ledger, add_up
from wanbatch.models import EditRequest, Item

if TYPE_CHECKING:
    from collections.abc import Callable


class Crash(BaseException):
    """The end of a process."""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Give an empty ledger."""
    return Ledger(tmp_path / "ledger")


def a_run(folder: Path, run_id: str, *keys: str) -> Journal:
    """Open the journal for a run that has settled these, one a day."""
    journal = Journal.open(folder / "journal.db")
    journal.begin_run(run_id, service="test", manifest="m.csv")
    for day, key in enumerate(keys):
        settle(journal, run_id, key, datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=day))
    return journal


def settle(journal: Journal, run_id: str, key: str, at: datetime) -> None:
    """Claim and settle an attempt."""
    item = Item(key=key, row=1, request=EditRequest(video="https://media.example.com/v.mp4"))
    attempt = journal.claim(run_id, item, service="test", manifest="m.csv", number=1)
    row = a_row(key, run_id=run_id, settled_at=at)
    journal.settled(attempt, Outcome.SUCCEEDED, row=row, cost=Decimal(row["cost"]), settled_at=at)


def crash(monkeypatch: pytest.MonkeyPatch, whose: object, method: str, *, call: int, when: str) -> None:
    """Let the process end just before or just after a call of a method."""
    real, calls = getattr(whose, method), []

    def crashing(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == call and when == "before":
            raise Crash
        result = real(*args, **named)
        if len(calls) == call and when == "after":
            raise Crash
        return result

    monkeypatch.setattr(whose, method, crashing)


def agree(ledger: Ledger, journal: Journal, *keys: str) -> None:
    """See that the ledger has each row once, that its totals say the same, and that nothing is left to write."""
    rows = ledger.read_attempts(["key", "run_id"]).to_pylist()
    assert sorted(row["key"] for row in rows) == sorted(keys)
    totals = {total["run_id"]: total["attempts"] for total in ledger.read_totals().to_pylist()}
    counted = {
        run_id: sum(row["run_id"] == run_id for row in rows) for run_id in {row["run_id"] for row in rows}
    }
    assert {run_id: number for run_id, number in totals.items() if number} == counted
    assert journal.unwritten("anyone") == []
    assert journal.unbatched_runs("anyone") == []


def test_what_is_settled_is_written(tmp_path: Path, ledger: Ledger) -> None:
    """Every settled row goes into the ledger; a second time adds nothing, a later row is added."""
    journal = a_run(tmp_path, "run-1", "a", "b")
    for _ in range(2):
        write_settled(journal, ledger, "run-1")
        agree(ledger, journal, "a", "b")
    settle(journal, "run-1", "c", datetime(2026, 11, 1, tzinfo=UTC))
    write_settled(journal, ledger, "run-1")
    agree(ledger, journal, "a", "b", "c")
    journal.close()


def test_a_clerk_adds_to_its_totals_what_is_new(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through refused writes and another's help its totals are right, and it reads each row of the journal once."""
    journal, other = a_run(tmp_path, "run-1"), Journal.open(tmp_path / "journal.db")
    clerk, day = Clerk(journal, ledger, "run-1"), datetime(2026, 11, 1, tzinfo=UTC)
    real, read = journal.batches_of, Counter[str]()

    def counted(run_id: str, **known: Any) -> Any:
        for batch in real(run_id, **known):
            read.update(row["key"] for row in batch.rows)
            yield batch

    monkeypatch.setattr(journal, "batches_of", counted)
    keys = [f"k{number}" for number in range(12)]
    for number, key in enumerate(keys):
        settle(journal, "run-1", key, day)
        if number % 4 == 1:
            with monkeypatch.context() as patch:
                crash(patch, ledger, "write_totals", call=1, when="before")
                with pytest.raises(Crash):
                    clerk.write_settled()
        elif number % 4 == 2:
            write_settled(other, ledger, "run-1")
        else:
            clerk.write_settled()
    agree(ledger, journal, *keys)
    assert ledger.read_totals().to_pylist() == add_up("run-1", journal.settled_rows("run-1"))
    assert read == Counter(keys)
    journal.close()
    other.close()


def test_what_is_on_its_way_is_found_at_once(tmp_path: Path) -> None:
    """However long the journal is: an index of what is not written yet serves it, in older journals, too."""
    a_run(tmp_path, "run-1", "a").close()
    for statement in ("DROP INDEX attempts_unbatched", None):
        with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
            if statement:
                db.execute(statement)
            else:
                asked = "SELECT DISTINCT run_id FROM attempts WHERE state = ? AND batch IS NULL"
                ((*_, words),) = db.execute(f"EXPLAIN QUERY PLAN {asked}", ["settled"]).fetchall()
                assert "attempts_unbatched" in words
        Journal.open(tmp_path / "journal.db").close()


ENDS = [
    ("journal", "take_batch", 1),
    ("journal", "take_batch", 2),
    ("ledger", "write_batch", 1),
    ("ledger", "_write", 1),
    ("ledger", "_write", 2),
    ("ledger", "write_totals", 1),
    ("journal", "written", 1),
]


@pytest.mark.parametrize("heir", ["run-1", "run-2"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("end", ENDS, ids=lambda end: f"{end[1]}-{end[2]}")
def test_a_crash_anywhere_writes_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: tuple[str, str, int], when: str, heir: str
) -> None:
    """Wherever it ends, whoever goes on: every row is in the ledger once, and the totals know it."""
    whose, method, call = end
    first, ledger = a_run(tmp_path, "run-1", "a", "b"), Ledger(tmp_path / "ledger")
    with monkeypatch.context() as patch:
        crash(patch, first if whose == "journal" else ledger, method, call=call, when=when)
        with pytest.raises(Crash):
            write_settled(first, ledger, "run-1")
    if heir == "run-1":
        journal = Journal.open(tmp_path / "journal.db")
        settle(journal, heir, "c", datetime(2026, 11, 1, tzinfo=UTC))
    else:
        first.end_run("run-1")
        journal = a_run(tmp_path, heir, "c")
    first.close()
    write_settled(journal, ledger, heir)
    agree(ledger, journal, "a", "b", "c")
    journal.close()


def test_a_refused_write_is_made_up_for(tmp_path: Path) -> None:
    """While the ledger can't be written the journal keeps everything, under the names it has given."""
    (tmp_path / "in the way").touch()
    journal = a_run(tmp_path, "run-1", "a", "b")
    for _ in range(2):
        with pytest.raises(LedgerError):
            write_settled(journal, Ledger(tmp_path / "in the way"), "run-1")
    (batch,) = journal.unwritten("run-1")
    ledger = Ledger(tmp_path / "ledger")
    write_settled(journal, ledger, "run-1")
    agree(ledger, journal, "a", "b")
    assert {path.stem for path in Path(ledger.attempts).rglob("*.parquet")} == {batch.name}
    journal.close()


def test_a_live_runs_rows_are_left_to_it(tmp_path: Path, ledger: Ledger) -> None:
    """A run writes nothing of another that is still at work."""
    first, second = a_run(tmp_path, "run-1", "a"), a_run(tmp_path, "run-2", "b")
    write_settled(second, ledger, "run-2")
    assert [row["key"] for row in ledger.read_attempts(["key"]).to_pylist()] == ["b"]
    write_settled(first, ledger, "run-1")
    agree(ledger, first, "a", "b")
    first.close()
    second.close()


def test_several_clerks_write_each_row_once(tmp_path: Path, ledger: Ledger) -> None:
    """Runs that clear up after the same one at the same time double nothing."""
    keys = [f"k{number}" for number in range(8)]
    a_run(tmp_path, "run-0", *keys).end_run("run-0")
    journals = {f"run-{number}": a_run(tmp_path, f"run-{number}") for number in range(1, 5)}

    def write(run_id: str) -> None:
        write_settled(journals[run_id], ledger, run_id)

    with ThreadPoolExecutor(len(journals)) as threads:
        list(threads.map(write, journals))
    agree(ledger, journals["run-1"], *keys)
    for journal in journals.values():
        journal.close()


def test_many_rows_are_several_batches(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit into one batch goes into more."""
    journal = a_run(tmp_path, "run-1", *"abcde")
    real: Callable[..., Batch | None] = journal.take_batch
    monkeypatch.setattr(journal, "take_batch", lambda run_id, name: real(run_id, name, at_most=2))
    write_settled(journal, ledger, "run-1")
    agree(ledger, journal, *"abcde")
    assert len({path.stem for path in Path(ledger.attempts).rglob("*.parquet")}) == 3
    journal.close()


def test_a_run_of_days_leaves_few_files(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row a flush would be a file an edit: once a day has many, they are merged, and the books stay as they are."""
    monkeypatch.setattr(clerk, "_LOOSE", 10)
    journal = a_run(tmp_path, "run-1")
    keeping = clerk.Clerk(journal, ledger, "run-1")
    keys = [f"{number:03}" for number in range(35)]
    for key in keys:
        settle(journal, "run-1", key, datetime(2026, 11, 1, tzinfo=UTC))
        keeping.write_settled()
        assert len(list((tmp_path / "ledger/attempts").rglob("*.parquet"))) <= 12
    agree(ledger, journal, *keys)
    assert list(ledger.verify()) == []
    journal.close()


def test_a_ledger_that_can_not_be_merged_is_written_all_the_same(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What only tidies up stops no run: it is said, and the rows are all there."""
    monkeypatch.setattr(clerk, "_LOOSE", 2)
    journal = a_run(tmp_path, "run-1")
    (tmp_path / "ledger/attempts/date=2026-10-01").mkdir(parents=True)
    for number in range(3):
        (tmp_path / f"ledger/attempts/date=2026-10-01/{number}.parquet").write_bytes(b"rubbish")
    keeping = clerk.Clerk(journal, ledger, "run-1")
    for key in ("a", "b", "c"):
        settle(journal, "run-1", key, datetime(2026, 11, 1, tzinfo=UTC))
        keeping.write_settled()
    assert "could not be compacted" in caplog.text
    assert len(list((tmp_path / "ledger/attempts/date=2026-11-01").glob("*.parquet"))) == 3
    assert journal.unwritten("run-1") == []
    journal.close()
