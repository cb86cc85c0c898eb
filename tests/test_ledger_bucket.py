"""The ledger in a bucket: a real store on a port, whole runs, readers beside compactions, and a store that fails."""

from __future__ import annotations

import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import s3fs
from fsspec.registry import _registry
from typer.testing import CliRunner

from tests.bucketstore import SECRET, Fault, Store, served_store, store
from tests.conftest import Account, options, write_manifest
from tests.rows import a_batch, a_row
from wanbatch import walk
from wanbatch.cli.commands import app
from wanbatch.errors import ExitCode, LedgerError, StorageError, UsageError
from wanbatch.ledger import Ledger, add_up
from wanbatch.ledger.bucket import Bucket
from wanbatch.ledger.reading import read_files
from wanbatch.opening import open_session
from wanbatch.options import RunOptions, find_journal
from wanbatch.planning.times import remembered
from wanbatch.stores import open_store
from wanbatch.summary import Summary, summarise

__all__ = ["served_store", "store"]

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("buckets")]

DAY = "2026-11-22"
BOOKS = "s3://out/some books/ledger"


class Crash(BaseException):
    """The end of a process."""


@pytest.fixture
def ledger(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """Give an empty ledger in a bucket of a store that is asked but once."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    assert store.keys("out") == []
    ledger = Ledger(BOOKS)
    ledger.prepare()
    yield ledger
    s3fs.S3FileSystem.clear_instance_cache()


def fill(ledger: Ledger, batches: int, *, first: int = 0) -> list[str]:
    """Write batches of two rows, all of one day, and their totals; gives the keys."""
    keys = []
    for number in range(first, first + batches):
        here = [f"{number:03}-{row}" for row in range(2)]
        ledger.write_batch(a_batch(f"b{number}", *(a_row(key) for key in here)))
        keys += here
    ledger.write_totals("run-1", add_up("run-1", [a_row(key) for key in keys]))
    return keys


def again(ledger: Ledger, number: int) -> None:
    """Write a batch of `fill` once more, as a run does that crashed before it marked it."""
    ledger.write_batch(a_batch(f"b{number}", *(a_row(f"{number:03}-{row}") for row in range(2))))


def keys_of(ledger: Ledger) -> list[str]:
    """Read every key through the ledger's own reader, and see that its sums say as many."""
    keys: list[str] = sorted(ledger.read_attempts(["key"])["key"].to_pylist())
    return keys


def objects(store: Store) -> list[str]:
    """Name the files of attempts."""
    return [key.rpartition("/")[2] for key in store.keys("out") if "/attempts/" in key]


def refused(act: Callable[[], object]) -> str:
    """Fail in one line that is the ledger's own, and holds no secret."""
    with pytest.raises(LedgerError) as caught:
        act()
    words = str(caught.value)
    assert len(words.splitlines()) == 1
    assert SECRET not in words
    assert "Signature" not in words
    return words


# ------------------------------------------------------------------------------------------------ what it does


@pytest.mark.parametrize("scheme", ["s3", "memory", "file"])
def test_everything_is_done_at_a_url(ledger: Ledger, scheme: str, tmp_path: Path) -> None:
    """Written, read, added up, compacted and verified as in a folder, with the same rows and sums."""
    places = {
        "s3": ledger.where,
        "memory": f"memory://{uuid.uuid4().hex}/l",
        "file": tmp_path.as_uri() + "/a l",
    }
    ledger = Ledger(places[scheme])
    ledger.prepare()
    assert ledger.is_empty()
    assert "no ledger here" in refused(ledger.read_attempts)
    assert ledger.compact().files_after == 0
    keys = fill(ledger, 3)
    ledger.write_batch(a_batch("next", a_row("next", settled_at="2026-11-23T00:00:00+00:00", cost=None)))
    ledger.write_totals("run-1", add_up("run-1", [*map(a_row, keys), a_row("next", cost=None)]))
    before = ledger.read_attempts().sort_by("key")
    for files in (4, 2):
        assert list(ledger.verify()) == []
        assert (len(ledger.read_totals()), ledger.is_empty()) == (1, False)
        (total,) = ledger.totals_by(run_id="run-1")
        assert (total["attempts"], total["cost"], total["unknown_cost"]) == (7, Decimal("6.024"), 1)
        done = ledger.compact()
        assert (done.files_before, done.files_after) == (files, 2)
        assert ledger.read_attempts().sort_by("key").equals(before)
    assert len(ledger.to_pandas(["key"])) == 7


def test_other_programs_read_it(ledger: Ledger) -> None:
    """One line of pandas, with the URL that the ledger gives."""
    keys = fill(ledger, 2)
    frame = pd.read_parquet(ledger.attempts)
    assert sorted(frame["key"]) == keys
    assert frame["cost"].sum() == Decimal("4.016")


def test_edits_are_remembered(ledger: Ledger) -> None:
    """A plan knows how long edits took."""
    assert remembered(ledger.where, "singapore").samples == 0
    ledger.write_batch(
        a_batch("b", a_row("1", run_s=70.0), a_row("2", run_s=90.0), a_row("3", status="failed", run_s=1.0))
    )
    found = remembered(ledger.where, "singapore")
    assert (found.samples, found.mean) == (2, 80.0)


# ----------------------------------------------------------------------------------------- without any lock


def test_a_batch_that_was_merged_is_not_written_again(ledger: Ledger, store: Store) -> None:
    """What a crashed run writes again is known by its name."""
    keys = fill(ledger, 3)
    ledger.compact()
    again(ledger, 1)
    assert keys_of(ledger) == keys
    assert len(objects(store)) == 1


def test_a_batch_that_is_merged_while_it_is_written_again_is_taken_away(
    ledger: Ledger, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compaction between the look and the write: the look after the write sees it."""
    keys, (files, _) = fill(ledger, 3), open_store(BOOKS)
    put = files.pipe_file

    def put_late(path: str, value: bytes) -> None:
        patch.undo()
        ledger.compact()
        put(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(files, "pipe_file", put_late)
        again(ledger, 1)
    assert keys_of(ledger) == keys
    assert len(objects(store)) == 1


@pytest.mark.parametrize("late", [0, 2])
def test_a_slow_compaction_doubles_and_loses_nothing(
    ledger: Ledger, store: Store, monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    """Another one, which may find more, comes and goes between what the first read and what it wrote."""
    keys, other, real = fill(ledger, 3), Ledger(BOOKS), read_files

    def slow(*args: Any) -> Any:
        table = real(*args)
        patch.undo()
        keys.extend(fill(other, late, first=3) if late else [])
        other.compact()
        return table

    with monkeypatch.context() as patch:
        patch.setattr("wanbatch.ledger.compacting.read_files", slow)
        ledger.compact()
    assert keys_of(ledger) == keys
    ledger.compact()
    assert keys_of(ledger) == sorted(pd.read_parquet(ledger.attempts)["key"]) == keys
    assert len(objects(store)) == 1


STEPS = [(name, call) for name, calls in (("pipe_file", 1), ("rm_file", 4)) for call in range(1, calls + 1)]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step[0]}-{step[1]}")
def test_a_compaction_that_dies_loses_and_repeats_nothing(
    ledger: Ledger, store: Store, monkeypatch: pytest.MonkeyPatch, step: tuple[str, int], when: str
) -> None:
    """Wherever it ends, our reader has each row once, a batch written again adds none, and once more mends it."""
    keys, (files, _) = fill(ledger, 4), open_store(BOOKS)
    name, call = step
    real, calls = getattr(files, name), []

    def dying(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == call and when == "before":
            raise Crash
        result = real(*args)
        if len(calls) == call:
            raise Crash
        return result

    with monkeypatch.context() as patch:
        patch.setattr(files, name, dying)
        with pytest.raises(Crash):
            ledger.compact()
    assert keys_of(ledger) == keys
    again(ledger, 2)
    assert keys_of(ledger) == keys
    (total,) = ledger.totals_by()
    assert total["attempts"] == len(keys)
    ledger.compact()
    assert keys_of(ledger) == keys
    assert len(objects(store)) == 1
    assert list(ledger.verify()) == []


def test_readers_see_every_row_once_while_days_are_merged(ledger: Ledger) -> None:
    """Whoever reads while batches are written, written again and merged by two sees whole batches, each once."""
    fill(ledger, 3)
    done = threading.Event()
    troubles: list[BaseException] = []

    def work(act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - a thread's error is the test's
            troubles.append(error)

    def write() -> None:
        mine = Ledger(BOOKS)
        for number in range(3, 10):
            again(mine, number)
            again(mine, number - 2)
        done.set()

    def compact() -> None:
        mine = Ledger(BOOKS)
        while not done.is_set() and not troubles:
            mine.compact()

    workers = [threading.Thread(target=work, args=(act,)) for act in (write, compact, compact)]
    for worker in workers:
        worker.start()
    seen = [keys_of(ledger)]
    while not done.is_set() and not troubles:
        seen.append(keys_of(ledger))
    for worker in workers:
        worker.join()
    assert troubles == []
    seen.append(keys_of(ledger))
    assert all(len(keys) == len(set(keys)) and len(keys) % 2 == 0 for keys in seen)
    assert [len(keys) for keys in seen] == sorted(len(keys) for keys in seen)
    assert len(seen[-1]) == 20


def test_a_listing_of_many_pages_is_no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that missed what was moved while its pages came is done again."""
    where = f"memory://{uuid.uuid4().hex}/l"
    keys, ledger = fill(Ledger(where), 2), Ledger(where)
    real, torn = Bucket._list, [[f"date={DAY}/b0.parquet"]]
    monkeypatch.setattr(Bucket, "_list", lambda bucket, under: torn.pop() if torn else real(bucket, under))
    assert keys_of(ledger) == keys


# ----------------------------------------------------------------------------------------- what goes wrong


def test_a_bucket_that_is_not_there_is_named(ledger: Ledger) -> None:
    """Before anything is paid, and when it is read."""
    gone = Ledger("s3://no-such-bucket/ledger")
    assert "s3://no-such-bucket/ledger/attempts" in refused(gone.prepare)
    assert "s3://no-such-bucket/ledger" in refused(gone.read_attempts)
    assert not ledger.where.endswith("/")


@pytest.mark.parametrize("status", [403, 500])
def test_a_store_that_refuses_is_an_error_in_one_line(ledger: Ledger, store: Store, status: int) -> None:
    """Whatever it refuses: writing, reading, listing, removing; afterwards everything is as it was."""
    keys = fill(ledger, 2)
    acts = {
        "PUT": (ledger.prepare, lambda: again(ledger, 9)),
        "GET": (ledger.read_attempts, ledger.totals_by, ledger.compact, lambda: again(ledger, 0)),
        "DELETE": (ledger.prepare, ledger.compact),
    }
    for method, these in acts.items():
        for act in these:
            store.faults[:] = [Fault("status", method, times=1_000, status=status)]
            refused(act)
            store.faults.clear()
    assert keys_of(ledger) == keys


def test_a_damaged_object_is_named(ledger: Ledger, store: Store) -> None:
    """An object that is no Parquet, or cut short, is told from a store that fails."""
    fill(ledger, 1)
    (key,) = (key for key in store.keys("out") if "/attempts/" in key)
    whole = store.get("out", key)
    for content in (b"", b"not Parquet at all", whole[:-100]):
        store.put("out", key.replace("b0", "bad"), content)
        assert "bad.parquet: not readable as Parquet" in refused(ledger.read_attempts)
        assert "bad.parquet" in next(iter(ledger.verify()))


def test_nobody_listens(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that can't be reached is named."""
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert ledger.where in refused(Ledger(BOOKS).prepare)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that brings it, without credentials."""
    monkeypatch.delitem(_registry, "gs", raising=False)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(StorageError, match=r"gs://b/l: needs a package: pip install 'wanbatch\[gs\]'"):
        open_store("gs://b/l")
    assert "pip install 'wanbatch[gs]'" in refused(lambda: Ledger("gs://b/l"))
    assert "nosuch://b/l" in refused(lambda: Ledger("nosuch://b/l"))


def test_the_journal_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """No database can be in a bucket; in a folder it is beside the ledger, unless somebody says otherwise."""
    monkeypatch.delenv("WANBATCH_JOURNAL", raising=False)
    with pytest.raises(UsageError, match=r"s3://b/l.*--journal.*WANBATCH_JOURNAL"):
        _ = RunOptions(manifest="m.csv", ledger="s3://b/l").journal_url
    answer = CliRunner().invoke(app, ["status", "--ledger", "s3://b/l"])
    assert isinstance(answer.exception, UsageError)
    assert find_journal("s3://b/l", "j.db") == "j.db"
    assert find_journal("file:///a%20b/l", None) == "/a b/l/journal.db"
    assert find_journal("l", None) == "l/journal.db"
    monkeypatch.setenv("WANBATCH_JOURNAL", "elsewhere.db")
    assert find_journal("s3://b/l", None) == "elsewhere.db"


# --------------------------------------------------------------------------------------------- whole runs


async def edit(asked: RunOptions, *, meanwhile: Callable[[], object] = lambda: None) -> Summary:
    """Run the whole walk once, with something that happens when it has begun."""
    async with open_session(asked) as session:
        meanwhile()
        await walk.edit_videos(session, walk.Steps())
        return await summarise(session)


def in_bucket(folder: Path, rows: int) -> RunOptions:
    """Give the options of a run whose ledger is in the bucket."""
    manifest = write_manifest(folder / "m.csv", rows, tag_team="red")
    return options(folder, manifest, ledger=BOOKS, journal=str(folder / "journal.db"))


def report(*asked: str) -> Any:
    """Ask the command line for a report of the ledger in the bucket."""
    answer = CliRunner().invoke(app, ["report", "--ledger", BOOKS, "--json", *asked])
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.output)


@pytest.mark.usefixtures("ledger")
async def test_a_run_keeps_its_books_in_the_bucket(tmp_path: Path, account: Account) -> None:
    """It writes, reports, verifies and compacts there, and a second run finds nothing to do."""
    asked = in_bucket(tmp_path, 6)
    first = await edit(asked)
    assert (first.exit_code, first.cost) == (ExitCode.OK, account.billed())
    for _ in range(2):
        for by in ("day", "status", "tag:team"):
            (group,) = report("--by", by)
            assert (group["attempts"], Decimal(group["cost"])) == (6, account.billed())
        assert CliRunner().invoke(app, ["ledger", "verify", "--ledger", BOOKS]).exit_code == 0
        assert CliRunner().invoke(app, ["ledger", "compact", "--ledger", BOOKS]).exit_code == 0
    second = await edit(asked)
    assert (second.exit_code, second.counts) == (ExitCode.OK, {"done_before": 6})
    assert not (tmp_path / "ledger").exists()


async def test_a_store_that_fails_in_mid_run_stops_the_spending(
    ledger: Ledger, store: Store, tmp_path: Path, account: Account
) -> None:
    """The run ends incomplete and says why; the next one writes what was paid, and the books agree with the bill."""
    asked = in_bucket(tmp_path, 6)
    stopped = await edit(
        asked, meanwhile=lambda: store.faults.append(Fault("status", "PUT", "/attempts/", 1_000))
    )
    assert stopped.exit_code is ExitCode.INCOMPLETE
    assert stopped.reason
    assert "can't be written" in stopped.reason
    assert len(account.bill()) > 0
    assert ledger.is_empty()
    store.faults.clear()
    await edit(asked, meanwhile=lambda: store.faults.append(Fault("lost", "PUT", "/attempts/", 1_000)))
    store.faults.clear()
    await edit(asked, meanwhile=lambda: store.faults.append(Fault("status", "PUT", "/totals/", 1_000)))
    store.faults.clear()
    await edit(asked)
    billed = {row["task_id"]: (Decimal(row["billed_s"]), Decimal(row["cost"])) for row in account.bill()}
    rows = ledger.read_attempts(["task_id", "billed_s", "cost"]).to_pylist()
    assert {row["task_id"]: (row["billed_s"], row["cost"]) for row in rows} == billed
    assert len(rows) == len(billed) == 6
    assert list(ledger.verify()) == []
