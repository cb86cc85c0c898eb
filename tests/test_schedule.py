"""When an edit is asked about where there is no list."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanbatch.schedule import QUESTIONS, PollSchedule


def asked(schedule: PollSchedule, run_s: float) -> tuple[int, float]:
    """Give how many questions an edit that runs so long costs, and how long after its end it is noticed."""
    at, questions = 0.0, 0
    while True:
        at += schedule.gap_s(at)
        questions += 1
        if at >= run_s:
            return questions, at - run_s


@given(st.lists(st.floats(0.1, 20_000), max_size=200), st.floats(0, 100_000))
def test_a_gap_is_a_second_to_a_minute(run_s: list[float], age_s: float) -> None:
    """Whatever edits took, and however old one is, it is asked about within a minute and not twice a second."""
    assert 1.0 <= PollSchedule(run_s).gap_s(age_s) <= 60.0


@pytest.mark.parametrize("spread", [0.1, 0.3, 0.6])
def test_a_fitted_schedule_notices_sooner_for_the_same_questions(spread: float) -> None:
    """Against even gaps with as many questions, an edit's end is noticed in less time."""
    draw = random.Random(7)  # noqa: S311 - the same drawn times in every run
    times = [min(max(draw.lognormvariate(5.1, spread), 30), 900) for _ in range(2_000)]
    schedule = PollSchedule(times[:1_000])
    fitted = [asked(schedule, run_s) for run_s in times[1_000:]]
    questions = sum(count for count, _ in fitted) / len(fitted)
    lag = sum(late for _, late in fitted) / len(fitted)
    even_gap = sum(times) / len(times) / questions
    assert lag < even_gap / 2
    assert questions < 1.5 * QUESTIONS


def test_without_a_history_the_services_own_words_do() -> None:
    """Before anything ended, nobody is asked about in the first half minute, and then every quarter of a minute."""
    schedule = PollSchedule()
    assert schedule.gap_s(0) == 60.0
    assert 5.0 < schedule.gap_s(120) < 30.0


def test_it_learns_from_what_ends() -> None:
    """After many quick edits it asks sooner than the service's words would have it."""
    schedule = PollSchedule()
    for _ in range(100):
        schedule.learn(12.0)
    assert schedule.gap_s(0) < 15.0
    assert schedule.waiting_gap_s() == 1.0
