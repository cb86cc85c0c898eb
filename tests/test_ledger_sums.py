"""Sums over the ledger: what a report adds up, held against adding up row by row."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.rows import a_batch, a_row
from wanbatch.errors import LedgerError
from wanbatch.ledger import DAY, TAG, Ledger
from wanbatch.ledger.folders import open_folder
from wanbatch.ledger.scanning import scan

LARGEST = Decimal("999999999999.999999")
BY = ("currency", DAY, f"{TAG}team", "code", f"{TAG}none")
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "run_id": st.sampled_from(["run-1", "run-2"]),
            "currency": st.sampled_from(["USD", "CNY", None]),
            "code": st.none() | st.text(max_size=3),
            "status": st.sampled_from(["succeeded", "failed"]),
            "attempt": st.integers(1, 3),
            "settled_at": st.sampled_from(
                [f"2026-11-{day}T{hour}:00:00+00:00" for day in (21, 22) for hour in ("00", "23")]
            ),
            "cost": st.none() | st.decimals(-LARGEST, LARGEST, places=6).map(str),
            "billed_s": st.none() | st.decimals(0, 999, places=6).map(str),
            "queue_s": st.none() | st.integers(0, 100).map(float),
            "run_s": st.none() | st.integers(0, 100).map(float),
            "tags": st.dictionaries(st.sampled_from(["team", "film", "x"]), st.text(max_size=2)),
        }
    ),
    min_size=1,
    max_size=30,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Give a ledger that is not there yet."""
    return Ledger(tmp_path / "ledger")


def write(ledger: Ledger, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write rows in two batches, in place of those of another example."""
    for path in Path(ledger.where).rglob("*.parquet"):
        path.unlink()
    full = [a_row(str(number), **row) for number, row in enumerate(rows)]
    ledger.write_batch(a_batch("a", *full[::2]))
    ledger.write_batch(a_batch("b", *full[1::2]))
    return full


def day_of(row: dict[str, Any]) -> date:
    """Give the day on which a row settled."""
    return datetime.fromisoformat(row["settled_at"]).date()


def by_hand(rows: list[dict[str, Any]]) -> dict[Any, tuple[Any, ...]]:
    """Add rows up one by one."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["currency"], day_of(row), row["tags"].get("team"), row["code"], None].append(row)
    return {
        key: (
            len(found),
            sum(Decimal(row["billed_s"] or 0) for row in found),
            sum(Decimal(row["cost"] or 0) for row in found),
            sum(row["cost"] is None for row in found),
            sum(row["billed_s"] is not None for row in found),
            sum(row["attempt"] > 1 for row in found),
            sum((row["queue_s"] or 0) + (row["run_s"] or 0) for row in found),
        )
        for key, found in groups.items()
    }


def summed(ledger: Ledger, **chosen: Any) -> dict[Any, tuple[Any, ...]]:
    """Let the ledger add up."""
    return {
        key: (
            sums.attempts,
            sums.billed_s,
            sums.cost,
            sums.unknown_cost,
            sums.billed_known,
            sums.retries,
            sums.slot_s,
        )
        for key, sums in ledger.sums(BY, **chosen).items()
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_sums_are_those_of_the_rows(ledger: Ledger, rows: list[dict[str, Any]]) -> None:
    """By text, day and tags, however large the money: all, one run, one day; in small files and in merged ones."""
    full = write(ledger, rows)
    for _ in range(2):
        assert summed(ledger) == by_hand(full)
        first = [row for row in full if row["run_id"] == "run-1"]
        assert summed(ledger, run_id="run-1") == by_hand(first)
        late = [row for row in full if day_of(row) > date(2026, 11, 21)]
        assert summed(ledger, within=lambda day: day > date(2026, 11, 21)) == by_hand(late)
        ledger.compact()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_rows_in_the_folder_of_another_day_count_on_their_own(
    ledger: Ledger, rows: list[dict[str, Any]]
) -> None:
    """Days are told by when attempts settled, also where a file has several and statistics don't say which."""
    full = write(ledger, rows)
    table = ledger.read_attempts()
    paths = list(Path(ledger.attempts).rglob("*.parquet"))
    for path in paths[1:]:
        path.unlink()
    pq.write_table(table, paths[0], write_statistics=False, use_dictionary=False)
    assert summed(ledger) == by_hand(full)
    late = [row for row in full if day_of(row) > date(2026, 11, 21)]
    assert summed(ledger, within=lambda day: day > date(2026, 11, 21)) == by_hand(late)


def test_statistics_tell_the_day(ledger: Ledger) -> None:
    """What the ledger writes itself needs no look at the times of its rows."""
    ledger.write_batch(a_batch("b", a_row("1"), a_row("2", settled_at="1969-12-31T23:59:59+00:00")))
    for _ in range(2):
        days = scan(open_folder(ledger.where, "attempts"), lambda group: group.day)
        assert days == [date(1969, 12, 31), date(2026, 11, 22)]
        ledger.compact()


def test_as_many_groups_as_attempts_are_no_trouble(ledger: Ledger) -> None:
    """Several columns in which every row has its own value, together more combinations than anybody could count."""
    rows = [
        a_row(str(number), tags={name: f"{name}{number}" for name in "abcde"}, cost=str(number))
        for number in range(5_000)
    ]
    ledger.write_batch(a_batch("b", *rows))
    found = ledger.sums([f"{TAG}{name}" for name in "abcde"])
    assert len(found) == 5_000
    assert found["a7", "b7", "c7", "d7", "e7"].cost == 7


def test_nothing_to_add_up_is_an_error_or_nothing(ledger: Ledger) -> None:
    """Without a ledger there is nothing to say; without attempts of a run there are no groups."""
    with pytest.raises(LedgerError, match="no ledger here yet"):
        ledger.sums(["status"])
    ledger.write_batch(a_batch("b", a_row("1")))
    assert ledger.sums(["status"], run_id="run-7") == {}


def test_a_report_waits_for_nothing_that_it_does_not_need(ledger: Ledger) -> None:
    """Pandas, Prefect and the database take longer to import than a year's attempts to add up."""
    ledger.write_batch(a_batch("b", a_row("1"), a_row("2", settled_at="2026-11-23T00:00:00+00:00")))
    code = (
        "import sys\nfrom wanbatch.cli import main\n"
        f"sys.argv[1:] = ['report', '--ledger', {ledger.where!r}, '--by', 'day', '--by', 'tag:team', '--by', 'status', "
        "'--run', 'run-1', '--since', '2026-11-22']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'pandas', 'prefect', 'sqlalchemy', 'av', 'httpx', 'fsspec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "2026-11-23" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
