"""The account's simulation, without HTTP."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanbatch.emulator import EmulatorConfig
from wanbatch.emulator.bill import Usage
from wanbatch.emulator.catalogue import Failure, Refusal
from wanbatch.emulator.clock import Clock
from wanbatch.emulator.state import TIMEOUT_MS, State, draw_run_ms
from wanbatch.emulator.task import DAY_MS, Edit, Fate, Status, Task

from .kit import MODEL, START

USAGE = Usage(Decimal("5.02"), Decimal("5.02"))
EDIT = Edit(model=MODEL, prompt="p", video="https://files.example/a.mp4", resolution="720P")


class Account:
    """A state with a clock that stands still, and steady run times of 100 s."""

    def __init__(self, *, outcome: Usage | Failure | None = USAGE, **settings: Any) -> None:
        steady = {"mean_run_s": 100, "min_run_s": 100, "max_run_s": 100}
        config = EmulatorConfig(**{"speed": 0, "start": START, **steady, **settings})
        self.clock = Clock(0, START)
        self.state = State(config, self.clock, lambda _: outcome)

    def submit(self, **options: Any) -> Task:
        """Submit an edit."""
        return self.state.submit(EDIT, request_id="r", **options)

    def statuses(self, *tasks: Task) -> str:
        """Give the first letter of each task's status; a dash when it is gone."""
        found = [self.state.query(task.task_id) for task in tasks]
        return "".join(task.status[0] if task else "-" for task in found)


def test_five_run_and_the_rest_wait_their_turn() -> None:
    """The sixth edit starts the moment the first ends, not when somebody looks."""
    account = Account()
    tasks = [account.submit() for _ in range(7)]
    assert account.statuses(*tasks) == "RRRRRPP"
    account.clock.advance(150)
    assert account.statuses(*tasks) == "SSSSSRR"
    assert tasks[5].scheduled == tasks[0].ended == tasks[0].submitted + 100_000


def test_the_story_does_not_depend_on_how_often_one_looks() -> None:
    """Looking every second and looking once at the end show the same times and the same bill."""
    often, once = Account(min_run_s=60, max_run_s=300), Account(min_run_s=60, max_run_s=300)
    for account in (often, once):
        for _ in range(20):
            account.submit()
    for _ in range(2000):
        often.clock.advance(1)
        often.state.now()
    once.clock.advance(2000)
    assert [(task.scheduled, task.ended) for task in often.state.tasks()] == [
        (task.scheduled, task.ended) for task in once.state.tasks()
    ]
    assert often.state.bill.totals() == once.state.bill.totals()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), max_size=30), st.integers(0, 5))
def test_slots_are_never_overfilled_nor_idle(steps: list[tuple[int, int]], seed: int) -> None:
    """However submits and time interleave, at most five edits run, and fewer only when none waits."""
    account = Account(min_run_s=60, mean_run_s=100, max_run_s=300, seed=seed)
    for submits, seconds in steps:
        for _ in range(submits):
            account.submit()
        account.clock.advance(seconds)
        states = [task.status for task in account.state.tasks()]
        running, pending = states.count(Status.RUNNING), states.count(Status.PENDING)
        assert running == account.state.running() <= 5
        assert running == 5 or pending == 0
    succeeded = [task for task in account.state.tasks() if task.status is Status.SUCCEEDED]
    assert len(account.state.bill.rows()) == len(succeeded)


def test_the_bill_is_exact_and_outlives_the_tasks() -> None:
    """A 5.02 s clip at 720P costs 1.004 dollars, still on the bill when the task has expired."""
    account = Account()
    task = account.submit()
    account.clock.advance(100 + 24 * 3600)
    assert account.statuses(task) == "-"
    (row,) = account.state.bill.rows()
    assert (row["input_video_s"], row["output_video_s"], row["billed_s"]) == ("5.02", "5.02", "10.04")
    assert Decimal(row["cost"]) == Decimal("1.004")
    assert row["submitted_at"] == "2026-04-02T16:08:03.576Z"
    assert row["ended_at"] == "2026-04-02T16:09:43.576Z"


def test_a_failure_shows_early_and_bills_nothing() -> None:
    """A task that fails ends after a tenth of its run time and frees its slot."""
    account = Account(outcome=Failure("InvalidParameter", "The size is not match."))
    task = account.submit()
    account.clock.advance(10)
    assert account.statuses(task) == "F"
    assert account.state.bill.rows() == []
    assert account.state.running() == 0


@pytest.mark.parametrize(("retention", "lives_until"), [("end", 100_000 + DAY_MS), ("submit", DAY_MS)])
def test_a_task_is_kept_for_a_day(retention: str, lives_until: int) -> None:
    """The 24 hours count from the end or from the submit, as configured."""
    account = Account(retention=retention)
    task = account.submit()
    account.clock.advance((lives_until - 1) / 1000)
    assert account.statuses(task) == "S"
    account.clock.advance(0.001)
    assert account.statuses(task) == "-"
    assert account.state.take_expired() == [task.task_id]


def test_a_task_without_a_result_times_out_after_three_hours() -> None:
    """Nobody delivers: InternalError.Timeout after three hours, unbilled, the slot free again."""
    account = Account(outcome=None)
    task = account.submit()
    account.clock.advance(TIMEOUT_MS / 1000)
    assert account.statuses(task) == "F"
    assert task.outcome == Failure("InternalError.Timeout", task.outcome.message)  # type: ignore[union-attr]  # it failed
    assert account.state.deliver(task.task_id, USAGE) is False
    assert account.state.bill.rows() == []


def test_an_edit_ends_at_the_later_of_its_drawn_time_and_its_delivery() -> None:
    """Work done early waits for the drawn time; work done late ends the task late."""
    early, late = Account(outcome=None), Account(outcome=None)
    first, second = early.submit(), late.submit()
    assert [started.task_id for started in early.state.take_started()] == [first.task_id]
    early.state.deliver(first.task_id, USAGE)
    assert early.statuses(first) == "R"
    early.clock.advance(100)
    assert early.statuses(first) == "S"
    late.clock.advance(130)
    assert late.statuses(second) == "R"
    late.state.deliver(second.task_id, USAGE)
    assert late.statuses(second) == "S"
    assert second.ended == second.submitted + 130_000


def test_only_what_waits_can_be_cancelled() -> None:
    """PENDING is cancelled and never runs; RUNNING, finished and unknown tasks are not."""
    account = Account(slots=1)
    running, waiting = account.submit(), account.submit()
    assert account.state.cancel(waiting.task_id)
    assert not account.state.cancel(waiting.task_id)
    assert not account.state.cancel(running.task_id)
    assert not account.state.cancel("nobody")
    account.clock.advance(1000)
    assert account.statuses(running, waiting) == "SC"
    assert len(account.state.bill.rows()) == 1


def test_overflow_can_be_refused_instead_of_queued() -> None:
    """With `reject`, a submit beyond the slots is HTTP 429 and leaves no task."""
    account = Account(overflow="reject", slots=2)
    account.submit()
    account.submit()
    with pytest.raises(Refusal, match="429 Throttling"):
        account.submit()
    assert len(account.state.tasks()) == 2


def test_stuck_tasks_stay_stuck_for_a_day() -> None:
    """RUNNING for ever holds its slot past the three hours, PENDING for ever holds none; a day ends both."""
    account = Account(slots=1)
    waiting = account.submit(fate=Fate(stuck=Status.PENDING))
    running = account.submit(fate=Fate(stuck=Status.RUNNING))
    behind = account.submit()
    account.clock.advance(2 * 3600)
    assert account.statuses(waiting, running, behind) == "PRP"
    account.clock.advance(2 * 3600)
    assert account.statuses(waiting, running, behind) == "PRF"
    account.clock.advance(20 * 3600)
    assert account.statuses(waiting, running) == "--"
    assert account.state.running() == 0


def test_a_task_that_vanishes_early_is_billed_all_the_same() -> None:
    """UNKNOWN before the end hides the task from query, list and cancel, not from the bill."""
    account = Account()
    task = account.submit(fate=Fate(life_ms=50_000))
    account.clock.advance(50)
    assert account.statuses(task) == "-"
    assert account.state.tasks() == []
    account.clock.advance(50)
    assert len(account.state.bill.rows()) == 1


def test_strangers_share_the_slots_and_the_bill() -> None:
    """Another client's tasks take the account's slots and are billed under their own name."""
    account = Account()
    account.state.strange(5, EDIT, USAGE)
    mine = account.submit()
    assert account.statuses(mine) == "P"
    account.clock.advance(200)
    assert [row["who"] for row in account.state.bill.rows()] == ["stranger"] * 5 + ["client"]


def test_the_same_seed_tells_the_same_story() -> None:
    """Run times and the bill follow from the seed; another seed gives others. Ids never repeat."""
    stories, ids = [], set()
    for seed in (1, 1, 2):
        account = Account(seed=seed, min_run_s=60, mean_run_s=188, max_run_s=300)
        for _ in range(10):
            account.submit()
        account.clock.advance(3000)
        rows = account.state.bill.rows()
        ids |= {row.pop("task_id") for row in rows}
        stories.append(rows)
    assert stories[0] == stories[1] != stories[2]
    assert len(ids) == 30


def test_run_times_have_the_documented_range_and_mean() -> None:
    """One to five minutes, about 188 s in the mean."""
    draws = [draw_run_ms(EmulatorConfig(), number) / 1000 for number in range(4000)]
    assert min(draws) >= 60
    assert max(draws) <= 300
    assert 178 < sum(draws) / len(draws) < 192


@pytest.mark.parametrize(
    "settings",
    [{"slots": 0}, {"speed": -1}, {"mean_run_s": 1000}, {"start": START.replace(tzinfo=None)}],
    ids=str,
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    """A configuration that makes no sense does not come into being."""
    with pytest.raises(ValueError, match=r"must|need"):
        EmulatorConfig(**settings)


def test_the_clock_runs_at_its_speed_and_never_back() -> None:
    """A standing clock moves only when told; time does not go backwards."""
    clock = Clock(0, START)
    before = clock()
    assert clock.advance(1.5) == before + 1500
    assert clock() == before + 1500
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)
