"""The ledger as people find it: its columns, its sums, and files that are whole or not there."""

from __future__ import annotations

import shutil
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.disk import disk_full_at, read_only_folder, unprivileged
from tests.rows import a_batch, a_row
from wanbatch.errors import LedgerError
from wanbatch.ledger import ATTEMPTS, Ledger, add_up

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = [
    "run_id",
    "key",
    "id",
    "attempt",
    "manifest",
    "row",
    "service",
    "region",
    "model",
    "prompt",
    "negative_prompt",
    "video",
    "reference_images",
    "resolution",
    "ratio",
    "duration_requested",
    "audio_setting",
    "prompt_extend",
    "watermark",
    "seed",
    "task_id",
    "submit_request_id",
    "status",
    "code",
    "message",
    "submitted_at",
    "scheduled_at",
    "ended_at",
    "settled_at",
    "queue_s",
    "run_s",
    "input_video_s",
    "output_video_s",
    "billed_s",
    "video_count",
    "sr",
    "currency",
    "unit_price",
    "cost",
    "rate_card",
    "output",
    "output_bytes",
    "output_sha256",
    "adopted",
    "tags",
]
MONEY = st.decimals(0, 999_999, places=6)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Give an empty ledger."""
    ledger = Ledger(tmp_path / "ledger")
    ledger.prepare()
    return ledger


def files(ledger: Ledger) -> dict[str, bytes]:
    """Read every file of a ledger, hidden ones too."""
    found = (path for path in Path(ledger.where).rglob("*") if path.is_file())
    return {str(path.relative_to(ledger.where)): path.read_bytes() for path in found}


# ------------------------------------------------------------------------------------------- what it holds


def test_the_columns_are_those_that_are_promised() -> None:
    """Readers rely on the names, their order, exact decimals and times in UTC."""
    assert ATTEMPTS.names == COLUMNS
    decimals = {field.name for field in ATTEMPTS if field.type == pa.decimal128(18, 6)}
    assert decimals == {"input_video_s", "output_video_s", "billed_s", "unit_price", "cost"}
    times = {field.name for field in ATTEMPTS if field.type == pa.timestamp("us", tz="UTC")}
    assert times == {"submitted_at", "scheduled_at", "ended_at", "settled_at"}


def test_a_row_comes_back_as_it_was_written(ledger: Ledger) -> None:
    """Every value survives: text in any script, lists, maps, microseconds, and what is unknown."""
    ledger.write_batch(a_batch("b", a_row("k")))
    (row,) = ledger.read_attempts().to_pylist()
    expected = a_row(
        "k",
        submitted_at=datetime(2026, 11, 22, 10, 0, 0, 576_000, UTC),
        settled_at=datetime(2026, 11, 22, 10, 5, 0, 1, UTC),
        input_video_s=Decimal("5.02"),
        output_video_s=Decimal("5.02"),
        billed_s=Decimal("10.04"),
        unit_price=Decimal("0.1"),
        cost=Decimal("1.004"),
        tags=[("film", "y"), ("team", "x")],
    )
    assert row == expected


def test_pandas_reads_it_as_it_stands(ledger: Ledger) -> None:
    """One line of pandas sums exactly, unknown costs left out, over several days and runs."""
    ledger.write_batch(
        a_batch("a", a_row("1", cost="0.1"), a_row("2", cost="0.2", settled_at="2026-11-23T00:00:00+00:00"))
    )
    ledger.write_batch(
        a_batch(
            "b", a_row("3", status="failed", cost="0"), a_row("4", cost=None, reference_images=[], tags={})
        )
    )
    frame = pd.read_parquet(ledger.attempts)
    sums = pd.read_parquet(ledger.attempts).groupby("status").cost.sum()
    assert sums.to_dict() == {"succeeded": Decimal("0.300000"), "failed": Decimal(0)}
    assert sorted(frame.date.astype(str).unique()) == ["2026-11-22", "2026-11-23"]
    first = frame[frame.key == "1"].iloc[0]
    assert dict(first.tags) == {"team": "x", "film": "y"}
    assert list(first.reference_images) == ["https://media.example.com/a.png"]
    assert str(first.settled_at.tz) == "UTC"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(costs=st.lists(MONEY, min_size=1, max_size=20))
def test_money_is_exact(ledger: Ledger, costs: list[Decimal]) -> None:
    """What six places can say is written and summed without a rounding."""
    rows = [a_row(str(number), cost=str(cost), billed_s=str(cost)) for number, cost in enumerate(costs)]
    ledger.write_batch(a_batch("b", *rows))
    assert ledger.read_attempts(["cost"]).column("cost").to_pylist() == costs
    (total,) = ledger.totals_by()
    assert (total["cost"], total["billed_s"], total["attempts"]) == (sum(costs), sum(costs), len(costs))


GROUPS = st.fixed_dictionaries(
    {
        "service": st.sampled_from(["singapore", "beijing"]),
        "currency": st.sampled_from(["USD", "CNY", None]),
        "resolution": st.sampled_from(["720P", "1080P"]),
        "status": st.sampled_from(["succeeded", "failed"]),
        "cost": st.none() | MONEY.map(str),
        "billed_s": st.none() | MONEY.map(str),
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(GROUPS, min_size=1, max_size=20))
def test_the_totals_are_the_sum_of_the_attempts(ledger: Ledger, groups: list[dict[str, Any]]) -> None:
    """Totals written for a run say what its attempts add up to, and count what has no price."""
    rows = [a_row(str(number), **group) for number, group in enumerate(groups)]
    ledger.write_batch(a_batch("b", *rows))
    ledger.write_totals("run-1", add_up("run-1", rows))
    totals = ledger.read_totals().to_pylist()
    assert totals == [{"run_id": "run-1", **total} for total in ledger.totals_by(run_id="run-1")]
    assert sum(total["attempts"] for total in totals) == len(rows)
    assert sum(total["cost"] for total in totals) == sum(Decimal(row["cost"] or 0) for row in rows)
    assert sum(total["unknown_cost"] for total in totals) == sum(row["cost"] is None for row in rows)
    keys = [
        tuple(total[name] for name in ("service", "currency", "resolution", "status")) for total in totals
    ]
    assert len(set(keys)) == len(keys)


def test_the_totals_of_a_run_replace_its_earlier_ones(ledger: Ledger) -> None:
    """Totals are one file a run; runs do not mix."""
    ledger.write_totals("run-1", add_up("run-1", [a_row("1")]))
    ledger.write_totals("run-1", add_up("run-1", [a_row("1"), a_row("2")]))
    ledger.write_totals("run-2", add_up("run-2", [a_row("3")]))
    found = {total["run_id"]: total["attempts"] for total in ledger.read_totals().to_pylist()}
    assert found == {"run-1": 2, "run-2": 1}


def test_nothing_adds_up_to_nothing() -> None:
    """A run that settled nothing has no totals."""
    assert add_up("run-1", []) == []


# ------------------------------------------------------------------------------------------ how it is written


def test_a_batch_is_a_file_a_day(ledger: Ledger) -> None:
    """Rows go to the day on which they settled, in UTC, under the batch's name."""
    late, early = "2026-11-22T23:59:59.999999+00:00", "2026-11-23T00:00:00+00:00"
    ledger.write_batch(a_batch("b", a_row("1", settled_at=late), a_row("2", settled_at=early)))
    assert set(files(ledger)) == {"attempts/date=2026-11-22/b.parquet", "attempts/date=2026-11-23/b.parquet"}


def test_writing_a_batch_again_changes_nothing(ledger: Ledger) -> None:
    """The same batch twice is one batch, to the byte."""
    batch = a_batch("b", a_row("1"), a_row("2", settled_at="2026-11-23T00:00:00+00:00"))
    ledger.write_batch(batch)
    before = files(ledger)
    ledger.write_batch(batch)
    assert files(ledger) == before


def test_a_reader_never_sees_half_a_file(ledger: Ledger) -> None:
    """Whoever reads while batches are written and written again sees whole batches only."""
    rows = [a_row(str(number)) for number in range(300)]
    ledger.write_batch(a_batch("b0", *rows))
    done = threading.Event()

    def write() -> None:
        for turn in range(20):
            ledger.write_batch(a_batch(f"b{turn % 4}", *rows))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(len(pd.read_parquet(ledger.attempts, columns=["key"])))
    writer.join()
    assert seen <= {300, 600, 900, 1_200}
    assert ledger.read_attempts(["key"]).num_rows == 1_200


def test_looking_whether_it_can_be_written_leaves_nothing(ledger: Ledger) -> None:
    """Preparing makes the folders, as often as one likes, and nothing else."""
    ledger.prepare()
    assert files(ledger) == {}
    assert Path(ledger.attempts).is_dir()
    assert Path(ledger.totals).is_dir()


# ----------------------------------------------------------------------------------------- what goes wrong


def refused(act: Callable[[], object]) -> str:
    """Fail in one line that is the ledger's own."""
    with pytest.raises(LedgerError) as caught:
        act()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_full_disk_leaves_the_ledger_as_it_was(ledger: Ledger) -> None:
    """What does not fit leaves no trace, and goes in when there is room."""
    ledger.write_batch(a_batch("a", a_row("1")))
    before, batch = files(ledger), a_batch("b", a_row("2"), a_row("3"))
    with disk_full_at(2_000):
        assert "b.parquet" in refused(lambda: ledger.write_batch(batch))
    assert files(ledger) == before
    ledger.write_batch(batch)
    assert ledger.read_attempts(["key"]).num_rows == 3


def test_a_folder_that_can_not_be_written_is_named() -> None:
    """Where nothing can be written it is said before anything is paid, and at every write."""
    with read_only_folder() as folder:
        ledger = Ledger(folder / "ledger")
        for act in (ledger.prepare, lambda: ledger.write_batch(a_batch("b", a_row("1")))):
            words = unprivileged(act)
            assert words.startswith("LedgerError: ")
            assert str(folder) in words


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """A file where the folder should be is an error."""
    (tmp_path / "ledger").touch()
    assert "ledger" in refused(Ledger(tmp_path / "ledger").prepare)


def test_no_ledger_is_not_an_empty_one(ledger: Ledger) -> None:
    """Reading where nothing was ever written says so; so does asking for a run that is not there."""
    assert "no ledger" in refused(ledger.read_attempts)
    assert "no ledger" in refused(ledger.read_totals)
    ledger.write_batch(a_batch("b", a_row("1")))
    assert "run-7" in refused(lambda: ledger.totals_by(run_id="run-7"))


def test_a_damaged_or_foreign_file_is_an_error(ledger: Ledger) -> None:
    """A file cut short, one that is no Parquet, and one with other columns are no ledger."""
    ledger.write_batch(a_batch("b", a_row("1")))
    (good,) = Path(ledger.attempts).rglob("*.parquet")
    bad = good.with_name("bad.parquet")
    for content in (b"", b"not Parquet at all", good.read_bytes()[:-100], good.read_bytes()[:100]):
        bad.write_bytes(content)
        refused(ledger.read_attempts)
    pq.write_table(pa.table({"cost": pa.array([["a list"]])}), bad)
    refused(ledger.read_attempts)
    bad.unlink()
    assert ledger.read_attempts(["key"]).num_rows == 1


def test_a_value_that_fits_no_column_is_an_error(ledger: Ledger) -> None:
    """A row that can't be written is the ledger's error, and leaves no file."""
    refused(lambda: ledger.write_batch(a_batch("b", a_row("1", sr=2**40))))
    refused(lambda: ledger.write_batch(a_batch("b", a_row("1", cost="1e15"))))
    assert files(ledger) == {}


def test_a_ledger_can_be_moved(ledger: Ledger, tmp_path: Path) -> None:
    """A ledger is its folder, and reads the same elsewhere."""
    ledger.write_batch(a_batch("b", a_row("1")))
    before = ledger.read_attempts()
    moved = shutil.move(ledger.where, tmp_path / "moved")
    assert Ledger(tmp_path / "moved").read_attempts().equals(before)
    assert moved == tmp_path / "moved"


def test_the_latest_rows_are_read_from_the_last_day_backwards(tmp_path: Path) -> None:
    """As many days are read as it takes to have the rows asked for, the oldest of them first."""
    ledger = Ledger(tmp_path / "ledger")
    for day in range(1, 6):
        rows = [a_row(f"{day}-{n}", settled_at=datetime(2026, 11, day, tzinfo=UTC)) for n in range(3)]
        ledger.write_batch(a_batch(f"b{day}", *rows))
    where = pc.field("status") == "succeeded"
    assert ledger.read_latest(["key"], where=where, rows=4)["key"].to_pylist() == [
        f"{day}-{n}" for day in (4, 5) for n in range(3)
    ]
    assert ledger.read_latest(["key"], where=where, rows=99).num_rows == 15
    with pytest.raises(LedgerError, match="nowhere"):
        Ledger(tmp_path / "nowhere").read_latest(["key"], where=where, rows=1)
