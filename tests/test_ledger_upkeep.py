"""The ledger over the years: compacted, verified, and read whatever version wrote it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.rows import a_batch, a_row
from wanbatch.errors import LedgerError
from wanbatch.ledger import ATTEMPTS, SCHEMA_VERSION, Ledger, add_up, compacting, disk

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = "2026-11-22"


class Crash(BaseException):
    """The end of a process."""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Give an empty ledger."""
    ledger = Ledger(tmp_path / "ledger")
    ledger.prepare()
    return ledger


def fill(ledger: Ledger, batches: int, *, rows: int = 2, first: int = 0) -> list[str]:
    """Write batches of one day and their totals; gives the keys."""
    keys = []
    for number in range(first, first + batches):
        here = [f"{number:03}-{row}" for row in range(rows)]
        ledger.write_batch(a_batch(f"b{number}", *(a_row(key) for key in here)))
        keys += here
    ledger.write_totals("run-1", add_up("run-1", [a_row(key) for key in keys]))
    return keys


def keys_of(ledger: Ledger) -> list[str]:
    """Read every key through the ledger's own reader."""
    keys: list[str] = sorted(ledger.read_attempts(["key"])["key"].to_pylist())
    return keys


def foreign_keys(ledger: Ledger) -> list[str]:
    """Read every key as any other program does."""
    return sorted(pd.read_parquet(ledger.attempts, columns=["key"])["key"])


def names(ledger: Ledger) -> list[str]:
    """List every file of the attempts, hidden ones too."""
    return sorted(path.name for path in Path(ledger.attempts).rglob("*") if path.is_file())


# ------------------------------------------------------------------------------------------------- compaction


def test_a_day_becomes_one_file_in_order(ledger: Ledger) -> None:
    """All rows of a day, sorted by time, key and attempt, with all their values, in one file of its own name."""
    late, early = f"{DAY}T20:00:00+00:00", f"{DAY}T01:00:00+00:00"
    ledger.write_batch(a_batch("b1", a_row("z", settled_at=late), a_row("y", settled_at=early)))
    ledger.write_batch(a_batch("b2", a_row("a", settled_at=late, attempt=2), a_row("a", settled_at=late)))
    ledger.write_batch(a_batch("b3", a_row("next", settled_at="2026-11-23T00:00:00+00:00")))
    before = ledger.read_attempts().sort_by("key").to_pylist()
    done = ledger.compact()
    assert (done.days, done.files_before, done.files_after) == (1, 3, 2)
    (merged,) = (Path(ledger.attempts) / f"date={DAY}").iterdir()
    rows = pq.ParquetFile(merged).read().to_pylist()
    assert [(row["key"], row["attempt"]) for row in rows] == [("y", 1), ("a", 1), ("a", 2), ("z", 1)]
    after = ledger.read_attempts().to_pylist()
    assert sorted(map(repr, after)) == sorted(map(repr, before))
    group = pq.read_metadata(merged).row_group(0)
    assert {group.column(0).compression} == {"ZSTD"}
    assert all(group.column(number).is_stats_set for number in range(3))


def test_compacting_again_changes_nothing_and_takes_in_what_is_new(ledger: Ledger) -> None:
    """A compacted day is left alone until it has more than one file again."""
    keys = fill(ledger, 3)
    ledger.compact()
    before = names(ledger)
    assert ledger.compact().days == 0
    assert names(ledger) == before
    keys += fill(ledger, 2, first=3)
    ledger.compact()
    assert len(names(ledger)) == 1
    assert keys_of(ledger) == foreign_keys(ledger) == keys


def test_a_ledger_of_nothing_is_compacted_at_once(ledger: Ledger) -> None:
    """Where nothing was written there is nothing to merge."""
    assert ledger.compact().files_after == 0


def test_a_batch_that_was_merged_is_not_written_again(ledger: Ledger) -> None:
    """A run that crashed before it marked its batch writes it again under its name: it is there already."""
    keys = fill(ledger, 3)
    for turn in range(2):
        ledger.compact()
        ledger.write_batch(a_batch("b1", *(a_row(key) for key in keys[2:4])))
        assert foreign_keys(ledger) == keys
        assert len(names(ledger)) == 1
        keys += fill(ledger, 1, first=3 + turn)


STEPS: list[tuple[object, str, int]] = [
    (compacting, "list_files", 1),
    (disk, "_whole", 1),
    (disk, "_rename", 1),
    (Path, "unlink", 1),
    (Path, "unlink", 2),
    (Path, "unlink", 3),
    (Path, "unlink", 4),
    (Path, "unlink", 5),
    (disk, "_sync_folder", 3),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step[1]}-{step[2]}")
def test_a_compaction_that_dies_loses_and_repeats_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, step: tuple[object, str, int], when: str
) -> None:
    """Wherever it ends, our reader has each row once, a batch written again adds none, and once more mends it."""
    keys = fill(ledger, 4)
    whose, name, call = step
    real, calls = getattr(whose, name), []

    def dying(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == call and when == "before":
            raise Crash
        result = real(*args, **named)
        if len(calls) == call:
            raise Crash
        return result

    with monkeypatch.context() as patch:
        patch.setattr(whose, name, dying)
        with pytest.raises(Crash):
            ledger.compact()
    assert keys_of(ledger) == keys
    assert set(foreign_keys(ledger)) == set(keys)
    ledger.write_batch(a_batch("b2", *(a_row(key) for key in keys[4:6])))
    assert keys_of(ledger) == keys
    ledger.compact()
    assert keys_of(ledger) == foreign_keys(ledger) == keys
    assert len([name for name in names(ledger) if not name.startswith(".")]) == 1
    assert list(ledger.verify()) == []


def test_readers_see_every_row_once_while_days_are_merged(ledger: Ledger) -> None:
    """Whoever reads through the ledger while it is written and compacted sees whole batches, each once."""
    fill(ledger, 3)
    done = threading.Event()

    def write() -> None:
        for number in range(3, 18):
            ledger.write_batch(a_batch(f"b{number}", a_row(f"{number:03}-0"), a_row(f"{number:03}-1")))
        done.set()

    def compact() -> None:
        while not done.is_set():
            ledger.compact()

    workers = [threading.Thread(target=write), threading.Thread(target=compact)]
    for worker in workers:
        worker.start()
    seen = [keys_of(ledger)]
    while not done.is_set():
        seen.append(keys_of(ledger))
    for worker in workers:
        worker.join()
    expected = [f"{number:03}-{row}" for number in range(18) for row in range(2)]
    assert all(keys == expected[: len(keys)] and len(keys) % 2 == 0 for keys in seen)
    assert keys_of(ledger) == expected


def test_two_compactions_at_once_keep_every_row(ledger: Ledger) -> None:
    """The slower one gives way, whether it finds out before or after it merged."""
    keys = fill(ledger, 6)
    with ThreadPoolExecutor() as pool:
        for compaction in [pool.submit(ledger.compact) for _ in range(4)]:
            compaction.result()
    ledger.compact()
    assert keys_of(ledger) == foreign_keys(ledger) == keys


def test_a_damaged_file_stops_compaction_before_anything_is_removed(ledger: Ledger) -> None:
    """What can't be read is named, and every file stays."""
    fill(ledger, 3)
    bad = Path(ledger.attempts) / f"date={DAY}" / "b1.parquet"
    bad.write_bytes(bad.read_bytes()[:-100])
    before = names(ledger)
    with pytest.raises(LedgerError, match=r"b1\.parquet"):
        ledger.compact()
    assert names(ledger) == before


ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.none() | st.decimals(0, 999_999, places=6).map(str),
        st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_compaction_keeps_every_value(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    """Whatever the batches and days: the same rows before and after, to the last value."""
    ledger = Ledger(tmp_path_factory.mktemp("ledger"))
    for number, (day, cost, tags) in enumerate(rows):
        row = a_row(str(number), cost=cost, tags=tags, settled_at=f"2026-11-{10 + day}T00:00:00+00:00")
        ledger.write_batch(a_batch(f"b{number}", row))
    before = sorted(ledger.read_attempts().to_pylist(), key=lambda row: str(row["key"]))
    ledger.compact()
    after = sorted(ledger.read_attempts().to_pylist(), key=lambda row: str(row["key"]))
    assert after == before
    assert len(names(ledger)) == len({day for day, _, _ in rows})


# --------------------------------------------------------------------------------------------------- versions


def written_by(ledger: Ledger, version: str | None, change: Callable[[pa.Table], pa.Table]) -> None:
    """Put the rows of a ledger into files as another version would have written them."""
    for path in Path(ledger.attempts).rglob("*.parquet"):
        table = change(pq.ParquetFile(path).read())
        pq.write_table(table.replace_schema_metadata(version and {"wanbatch.schema": version}), path)


def with_doubles(table: pa.Table) -> pa.Table:
    """Turn decimals into doubles."""
    for number, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type):
            table = table.set_column(number, field.name, table[field.name].cast(pa.float64()))
    return table


@pytest.mark.parametrize("cost", ["1.004", "0.1", "999999.999999", None])
def test_money_of_version_0_is_what_was_meant(ledger: Ledger, cost: str | None) -> None:
    """Doubles become the decimals they stood for, beside files of today, and compaction rewrites them."""
    ledger.write_batch(a_batch("old", a_row("old", cost=cost)))
    written_by(ledger, "0", with_doubles)
    ledger.write_batch(a_batch("new", a_row("new", cost="0.000001")))
    for _ in range(2):
        table = ledger.read_attempts(["key", "cost"]).sort_by("key")
        assert table["cost"].to_pylist() == [Decimal("0.000001"), cost and Decimal(cost)]
        assert table["cost"].type == pa.decimal128(18, 6)
        ledger.compact()
    (path,) = Path(ledger.attempts).rglob("*.parquet")
    assert pq.read_schema(path).metadata[b"wanbatch.schema"].decode() == SCHEMA_VERSION


@pytest.mark.parametrize("version", ["0", SCHEMA_VERSION])
def test_a_column_that_came_later_is_unknown_in_older_files(ledger: Ledger, version: str) -> None:
    """Older files go on to be read, in today's columns, and to be compacted."""
    ledger.write_batch(a_batch("old", a_row("old")))
    written_by(ledger, version, lambda table: table.drop_columns(["tags", "adopted"]))
    ledger.write_batch(a_batch("new", a_row("new")))
    for _ in range(2):
        table = ledger.read_attempts().sort_by("key")
        assert table.schema.equals(ATTEMPTS)
        assert table["adopted"].to_pylist() == [False, None]
        ledger.compact()


def test_a_newer_ledger_is_refused_by_name(ledger: Ledger) -> None:
    """What a newer wanbatch wrote is neither guessed at nor compacted."""
    fill(ledger, 2)
    written_by(ledger, "7", lambda table: table)
    for act in (ledger.read_attempts, ledger.totals_by, ledger.compact):
        with pytest.raises(LedgerError, match=r"newer wanbatch .schema 7.*upgrade"):
            act()


@pytest.mark.parametrize("version", [None, "one", ""])
def test_a_file_that_does_not_say_its_version_is_not_ours(ledger: Ledger, version: str | None) -> None:
    """Rows that something else wrote are not counted as money spent."""
    fill(ledger, 1)
    written_by(ledger, version, lambda table: table)
    with pytest.raises(LedgerError, match="no file of this ledger"):
        ledger.read_attempts()


def test_a_file_without_its_keys_is_refused(ledger: Ledger) -> None:
    """An attempt without a key is none."""
    fill(ledger, 1)
    written_by(ledger, SCHEMA_VERSION, lambda table: table.drop_columns(["key"]))
    with pytest.raises(LedgerError, match="no column key"):
        ledger.read_attempts(["cost"])


# --------------------------------------------------------------------------------------------------- verifying


def findings(ledger: Ledger) -> list[str]:
    """Verify a ledger."""
    return list(ledger.verify())


def test_books_in_order_have_no_findings(ledger: Ledger) -> None:
    """A ledger as it is written, with failed and unknown costs, compacted or not, is in order."""
    rows = [
        a_row("1"),
        a_row("2", status="failed", billed_s="0", cost="0", unit_price=None),
        a_row("3", status="expired", billed_s=None, cost=None),
        a_row("4", billed_s="3.333333", unit_price="0.123457", cost="0.411523"),
    ]
    ledger.write_batch(a_batch("b1", *rows[:2]))
    ledger.write_batch(a_batch("b2", *rows[2:]))
    ledger.write_totals("run-1", add_up("run-1", rows))
    for _ in range(2):
        assert findings(ledger) == []
        ledger.compact()


def test_a_flipped_bit_is_found(ledger: Ledger) -> None:
    """Every page is held against its checksum, in attempts and totals."""
    fill(ledger, 1)
    for path in (*Path(ledger.attempts).rglob("*.parquet"), *Path(ledger.totals).rglob("*.parquet")):
        whole = path.read_bytes()
        place = pq.read_metadata(path).row_group(0).column(0).data_page_offset + 40
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        (finding,) = findings(ledger)
        assert str(path) in finding
        path.write_bytes(whole)
    assert findings(ledger) == []


def test_a_row_that_is_there_twice_is_found(ledger: Ledger) -> None:
    """A key's attempt is one row; two are named, and so are totals that know of one."""
    fill(ledger, 1)
    ledger.write_batch(a_batch("again", a_row("000-1")))
    twice, totals = findings(ledger)
    assert "key 000-1, attempt 1: 2 rows" in twice
    assert "totals have 2 attempts, 20.080000 s, cost 2.008000" in totals
    assert "the attempts 3 attempts, 30.120000 s, cost 3.012000" in totals


@pytest.mark.parametrize("changed", [{"cost": "1.1"}, {"cost": "-1.004", "billed_s": "-10.04"}])
def test_a_cost_that_is_not_seconds_times_price_is_found(ledger: Ledger, changed: dict[str, str]) -> None:
    """Each row's own sum is done again."""
    row = a_row("k", **changed)
    ledger.write_batch(a_batch("b", row))
    ledger.write_totals("run-1", add_up("run-1", [row]))
    (finding,) = findings(ledger)
    assert f"key k, attempt 1: costs {changed['cost']}" in finding


def test_totals_of_attempts_that_are_not_there_are_found(ledger: Ledger) -> None:
    """A run with totals and without attempts has lost them; one without totals has not written them yet."""
    fill(ledger, 1)
    ledger.write_totals("run-2", add_up("run-2", [a_row("gone")]))
    ledger.write_batch(a_batch("b9", a_row("k", run_id="run-3")))
    lost, unsummed = findings(ledger)
    assert "run run-2" in lost
    assert "the attempts nothing" in lost
    assert "run run-3" in unsummed
    assert "the totals have nothing" in unsummed


def test_a_file_in_the_wrong_day_is_found(ledger: Ledger) -> None:
    """Readers that leave out days by their folder would miss its rows."""
    fill(ledger, 1)
    day = Path(ledger.attempts) / f"date={DAY}"
    day.rename(Path(ledger.attempts) / "date=2026-11-20")
    (finding,) = findings(ledger)
    assert f"b0.parquet: has rows of {DAY}" in finding


def test_what_an_interrupted_compaction_left_is_found(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files whose rows were merged, and that were not removed any more, are named."""
    fill(ledger, 2)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda _path, **_: None)
        ledger.compact()
    found = findings(ledger)
    assert len(found) == 2
    assert all("wanbatch ledger compact" in line for line in found)


def test_a_video_that_is_gone_is_found_when_asked_for(ledger: Ledger) -> None:
    """Outputs are looked for only on demand, and only those of rows that have one."""
    rows = [a_row("1", output="here.mp4"), a_row("2", output="gone.mp4"), a_row("3", output=None)]
    ledger.write_batch(a_batch("b", *rows))
    ledger.write_totals("run-1", add_up("run-1", rows))
    assert findings(ledger) == []
    (finding,) = ledger.verify(exists=lambda output: output == "here.mp4")
    assert "its video gone.mp4 is not there" in finding


# ------------------------------------------------------------------------------------------------------ pandas


def test_pandas_gets_decimals_that_stay_exact(ledger: Ledger) -> None:
    """Sums over Arrow's types are decimals in 38 digits; unknown costs are left out, and can be seen."""
    rows = [a_row(str(number), cost="999999.999999") for number in range(3)]
    ledger.write_batch(a_batch("b", *rows, a_row("x", cost=None)))
    frame = ledger.to_pandas(["status", "cost"])
    assert frame.cost.sum() == Decimal("2999999.999997")
    assert frame.groupby("status").cost.sum().to_dict() == {"succeeded": Decimal("2999999.999997")}
    assert frame.cost.isna().sum() == 1
