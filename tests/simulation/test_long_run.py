"""A run that lasts for longer than its results do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import KEY, options
from tests.simulation.fast_time import FastClock, fast
from tests.simulation.migration import START, write_rows
from tests.simulation.service import ADDRESS, Service, Span
from wanbatch import opening, walk
from wanbatch.emulator.config import EmulatorConfig
from wanbatch.errors import ExitCode
from wanbatch.settings import ADDRESS_VARIABLE, KEY_VARIABLE
from wanbatch.summary import summarise


@pytest.fixture(autouse=True)
def leisurely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run's own ticks be as rare as its edits: they are not what takes a day here."""
    monkeypatch.setenv(ADDRESS_VARIABLE, ADDRESS)
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    for rhythm in ("HEARTBEAT_S", "_FLUSH_S", "_PROGRESS_S"):
        monkeypatch.setattr(opening, rhythm, 600.0)


def test_a_result_that_could_not_be_had_is_fetched_before_its_day_is_over(memory_folder: Path) -> None:
    """While the run goes on, what the result host did not give is asked for again; nothing paid expires."""
    fast(_with_hours_off(memory_folder, items=36, no_results=Span(1.0, 3.0)))


def test_a_task_that_could_not_be_seen_is_found_again_in_the_same_run(memory_folder: Path) -> None:
    """While the run goes on, a task that the service did not know for hours is asked for again; nothing expires."""
    fast(_with_hours_off(memory_folder, items=36, forgetful=Span(1.0, 3.0)))


async def _with_hours_off(folder: Path, *, items: int, **hours: Span) -> None:
    clock = FastClock(START)
    config = EmulatorConfig(
        key=KEY, speed=0, start=START, slots=1, min_run_s=2900, mean_run_s=2950, max_run_s=3000, render=False
    )
    service = Service(config, clock, **hours)
    asked = options(folder, write_rows(folder, items), slots=1, poll_interval=240.0)
    async with opening.open_session(asked, clock=clock, transport=service) as session:
        await walk.edit_videos(session, walk.Steps())
        summary = await summarise(session)
    assert clock.monotonic() > 24 * 3600 + max(span.ends for span in hours.values()) * 3600
    assert summary.counts == {"submitted": items, "succeeded": items}
    assert summary.exit_code is ExitCode.OK
    assert summary.lost == 0
