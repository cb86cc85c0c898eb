"""A migration of days, in seconds: what it must keep whatever happens on the way.

`SIMULATED_ITEMS=10000` makes it four days and a half of an account of five slots.
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.conftest import KEY
from tests.simulation.fast_time import fast
from tests.simulation.load import MB
from tests.simulation.migration import AHEAD, SLOTS, Migration
from tests.simulation.service import ADDRESS, Span
from wanbatch.ledger import Ledger
from wanbatch.settings import ADDRESS_VARIABLE, KEY_VARIABLE

ITEMS = int(os.environ.get("SIMULATED_ITEMS", "300"))
_SETTLING_H = 0.5
"""What the restarts and the last edits take."""
_RUN_H = 0.2
"""No edit waits and runs for longer."""


@pytest.mark.slow
@pytest.mark.timeout(120 + ITEMS)
def test_a_migration_keeps_every_promise(memory_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults daily, hours of outage, a day without a list, power cuts: all paid once, fetched in time, and booked."""
    monkeypatch.setenv(ADDRESS_VARIABLE, ADDRESS)
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    migration = Migration(memory_folder, ITEMS)
    fast(migration.run())
    diary, service = migration.diary, migration.service
    rows = Ledger(memory_folder / "ledger").read_attempts().to_pylist()
    succeeded = [row for row in rows if row["status"] == "succeeded"]

    assert Counter(row["id"] for row in succeeded) == {f"clip-{number:05}": 1 for number in range(ITEMS)}
    assert {row["status"] for row in rows} <= {"succeeded", "failed", "not_created"}
    billed = {
        row["task_id"]: (Decimal(row["billed_s"]), Decimal(row["cost"]))
        for row in service.world.state.bill.rows()
    }
    assert {row["task_id"]: (row["billed_s"], row["cost"]) for row in succeeded} == billed
    assert all(row["settled_at"] - row["ended_at"] < timedelta(hours=24) for row in succeeded)
    assert all((memory_folder / row["output"]).stat().st_size == row["output_bytes"] for row in succeeded)

    outage, no_list = migration.calendar.outage, migration.calendar.no_list
    unseen = Span(no_list.begins, no_list.ends + _RUN_H)  # a parked edit may run, and nobody here knows
    assert max(edits for hour, edits in service.in_flight if not unseen.holds(hour)) <= SLOTS + AHEAD
    assert max(edits for _, edits in service.in_flight) <= SLOTS + AHEAD + diary.resolved
    work_h = migration.run_seconds() / SLOTS / 3600
    assert diary.ended_at_h <= 1.05 * work_h + (outage.ends - outage.begins) + _SETTLING_H
    halfway, end = diary.rss[len(diary.rss) // 2][1], diary.rss[-1][1]
    # The account lives in this process, too, and its bill and what pytest keeps of the log grow with the story.
    # Arrow's allocator asks the system for 32 MB at a time.
    assert end - halfway < 2 * 32 * MB + ITEMS * 5_000
    assert min(diary.refused_starts, diary.resolved) > 0
