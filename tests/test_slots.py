"""The account's slots under a run: full, kept to, shared with strangers, and with a service that queues nothing."""

from __future__ import annotations

import asyncio
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Account, emulated, options, point_to, write_manifest
from tests.test_walk import books_agree, edit
from wanbatch import walk
from wanbatch.errors import ExitCode
from wanbatch.opening import open_session
from wanbatch.summary import summarise

pytestmark = pytest.mark.timeout(90)

SPEED = 600.0


def most_at_once(tasks: list[dict[str, Any]], start: str, end: str = "ended_at") -> int:
    """Give the most tasks that were between two of their moments at once."""
    moments = [(task[start], 1) for task in tasks] + [(task[end], -1) for task in tasks]
    return max(accumulate(change for _, change in sorted(moments)))


def makespan_ratio(tasks: list[dict[str, Any]], slots: int) -> float:
    """Give how much longer all took than the same run times packed into the slots without a gap."""
    times = {
        name: [datetime.fromisoformat(task[name]) for task in tasks] for name in ("scheduled_at", "ended_at")
    }
    ran = sum(
        (end - start).total_seconds()
        for start, end in zip(times["scheduled_at"], times["ended_at"], strict=True)
    )
    return (max(times["ended_at"]) - min(times["scheduled_at"])).total_seconds() / (ran / slots)


@pytest.mark.parametrize("words", ["documented", "concurrency"])
async def test_a_service_that_queues_nothing_is_kept_full_without_hammering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """Where a full service answers 429, the run keeps to its slots by itself, pays once for each row, and gets on."""
    with emulated(overflow="reject", speed=SPEED) as account:
        point_to(account, monkeypatch)
        if words == "concurrency":
            account.faults({"kind": "throttle-concurrency", "every": 9})
        summary = await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 40), poll_interval=0.02))
        tasks = account.get("tasks")["tasks"]
        assert (summary.exit_code, len(tasks)) == (ExitCode.OK, 40)
        books_agree(tmp_path, account)
        assert most_at_once(tasks, "submitted_at") == 5
        assert account.get("limits")["throttled"]["submit"] < 40 / 2


async def test_strangers_in_the_slots_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another client holds the slots, fewer of ours wait at the service, and the run says who is there."""
    with emulated(speed=SPEED, mean_run_s=200.0, min_run_s=190.0) as account:
        point_to(account, monkeypatch)
        account.post("strangers", {"count": 40})
        seen: list[tuple[int, int]] = []
        asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 6), poll_interval=0.02)
        async with open_session(asked) as session:

            async def watch() -> None:
                while True:
                    seen.append((session.window.places, session.watcher.others))
                    await asyncio.sleep(0.05)

            watching = asyncio.create_task(watch())
            await walk.edit_videos(session, walk.Steps())
            watching.cancel()
            summary = await summarise(session)
        assert summary.exit_code is ExitCode.OK
        assert min(places for places, _ in seen) == 2  # two wait, and nobody runs
        assert max(others for _, others in seen) == 5
        books = {row["task_id"] for row in account.bill() if row["who"] == "client"}
        assert len(books) == 6


async def test_without_a_list_the_questions_are_few_and_the_results_all_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account that has no task list is asked about each edit now and then, never faster than the limit."""
    with emulated(speed=60.0, query_rate=20, mean_run_s=100.0, max_run_s=110.0, min_run_s=60.0) as account:
        point_to(account, monkeypatch)
        account.faults({"kind": "list-absent"})
        summary = await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 10), poll_interval=0.04))
        assert summary.exit_code is ExitCode.OK
        books_agree(tmp_path, account)
        limits = account.get("limits")
        assert limits["calls"]["query"] <= 10 * 40
        assert limits["throttled"]["query"] == 0


async def test_a_list_with_holes_ends_no_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that leaves out every second row costs more questions and nothing else."""
    with emulated(speed=SPEED) as account:
        point_to(account, monkeypatch)
        account.faults({"kind": "list-incomplete"})
        summary = await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 12), poll_interval=0.05))
        assert summary.exit_code is ExitCode.OK
        books_agree(tmp_path, account)


async def test_a_question_without_an_answer_keeps_nobody_waiting(tmp_path: Path, account: Account) -> None:
    """While one edit's question hangs, the ends of all others are noticed."""
    account.faults({"kind": "hang-before-accept", "on": "query", "nth": 1, "seconds": 8})
    settled: list[int] = []
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 7), poll_interval=0.05)
    async with open_session(asked) as session:
        editing = asyncio.create_task(walk.edit_videos(session, walk.Steps()))
        while session.progress.settled < 6:
            settled.append(session.progress.settled)
            await asyncio.sleep(0.05)
        assert not account.get("limits")["throttled"]["query"]
        assert session.watcher.trouble is None  # the one that hangs has not come back yet
        await editing
        assert (await summarise(session)).exit_code is ExitCode.OK
    books_agree(tmp_path, account)


async def test_refusals_for_the_rate_slow_the_submits_down(tmp_path: Path, account: Account) -> None:
    """After 429s for the rate or for a burst, all rows are edited once all the same, and nothing is in doubt."""
    account.faults(
        {"kind": "throttle-rate", "on": "submit", "every": 3, "count": 2},
        {"kind": "throttle-burst", "on": "submit", "nth": 5},
    )
    summary = await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 9)))
    assert (summary.exit_code, len(account.bill())) == (ExitCode.OK, 9)
    assert account.get("limits")["throttled"]["submit"] >= 3
