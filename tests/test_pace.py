"""Rates, places, back-off and the service's clock, in a time that the test moves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanbatch.pace import Gate, Rate, ServiceClock, SystemClock, delay

START = datetime(2026, 11, 22, 10, tzinfo=UTC)


class FakeClock:
    """A time that jumps to the next sleeper when everybody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._count = itertools.count()

    def now(self) -> datetime:
        """Tell the time."""
        return START + timedelta(seconds=self.seconds - 1_000.0)

    def monotonic(self) -> float:
        """Count seconds."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Wait until the time has come."""
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self.seconds + seconds, next(self._count), woken))
        await woken.wait()

    async def run(self, *tasks: asyncio.Task[None]) -> None:
        """Let time pass until these are done."""
        while not all(task.done() for task in tasks):
            for _ in range(10):
                await asyncio.sleep(0)
            if self._sleepers:
                at, _, woken = heapq.heappop(self._sleepers)
                self.seconds = max(self.seconds, at)
                woken.set()
        for task in tasks:
            task.result()


async def passes(rate: Rate, clock: FakeClock, arrivals: list[float]) -> list[float]:
    """Give the moments at which those who arrive at these moments pass."""
    passed: list[float] = []

    async def one(arrival: float) -> None:
        await clock.sleep(arrival)
        await rate.wait()
        passed.append(clock.seconds)

    await clock.run(*(asyncio.create_task(one(arrival)) for arrival in arrivals))
    return passed


# -------------------------------------------------------------------------------------------------- rates


@given(
    rate=st.sampled_from([0.5, 1, 3, 5, 20]),
    arrivals=st.lists(st.floats(0, 20), min_size=1, max_size=30),
)
def test_no_second_has_more_than_its_share(rate: float, arrivals: list[float]) -> None:
    """However they arrive, no window of a second lets more through than the rate, and everybody passes."""

    async def play() -> list[float]:
        clock = FakeClock()
        return await passes(Rate(rate, clock), clock, arrivals)

    passed = asyncio.run(play())
    assert len(passed) == len(arrivals)
    for start in passed:
        assert sum(start <= at < start + 1 for at in passed) <= max(rate, 1)
    for one, next_one in itertools.pairwise(sorted(passed)):
        assert next_one - one > 1 / rate


async def test_a_rate_is_used_nearly_whole() -> None:
    """Those who wait pass at the rate, less its slack, and the first at once."""
    clock = FakeClock()
    passed = await passes(Rate(5, clock), clock, [0.0] * 11)
    assert passed[0] == 1_000.0
    assert passed[-1] - passed[0] == pytest.approx(10 * Rate.SLACK / 5)


async def test_an_idle_time_saves_nothing_up() -> None:
    """After a pause there is no burst."""
    clock = FakeClock()
    passed = await passes(Rate(1, clock), clock, [0.0, 60.0, 60.0, 60.0])
    assert [at - 1_000 for at in passed] == pytest.approx([0.0, 60.0, 61.1, 62.2])


async def test_a_back_off_holds_those_who_wait_already() -> None:
    """A refusal by the far end holds everybody, and they pass one by one afterwards, in their order."""
    clock = FakeClock()
    rate = Rate(1, clock)
    passed: list[tuple[int, float]] = []

    async def one(number: int) -> None:
        await rate.wait()
        passed.append((number, clock.seconds - 1_000))

    async def refuse() -> None:
        await clock.sleep(0.5)
        rate.back_off(30)
        rate.back_off(2)  # a shorter one takes nothing back

    await clock.run(*(asyncio.create_task(one(number)) for number in range(4)), asyncio.create_task(refuse()))
    assert [number for number, _ in passed] == [0, 1, 2, 3]
    assert [at for _, at in passed] == pytest.approx([0.0, 30.5, 31.6, 32.7])


async def test_who_gives_up_takes_no_turn() -> None:
    """A waiter that is cancelled leaves its turn to the next."""
    clock = FakeClock()
    rate = Rate(1, clock)
    await rate.wait()
    first, second = asyncio.create_task(rate.wait()), asyncio.create_task(rate.wait())
    await asyncio.sleep(0)
    first.cancel()
    await clock.run(second)
    assert clock.seconds == pytest.approx(1_001.1)


async def test_a_rate_that_was_too_high_recovers_within_a_minute() -> None:
    """A refusal of the rate itself widens the spacing, again if it comes again, and a minute later all is as before."""
    clock = FakeClock()
    rate = Rate(5, clock)
    usual = rate.interval_s
    rate.slow_down(2.0, after_s=3.0)
    assert rate.interval_s == pytest.approx(2 * usual)
    rate.slow_down(4.0, after_s=3.0)
    assert rate.interval_s == pytest.approx(8 * usual)
    for _ in range(9):
        rate.slow_down(4.0, after_s=3.0)
    assert rate.interval_s == pytest.approx(16 * usual)
    clock.seconds += 3 + 22.5
    assert rate.interval_s == pytest.approx(8.5 * usual)
    clock.seconds += 30
    assert rate.interval_s == usual
    rate.slow_down(1.0, after_s=3.0)  # a refusal for another reason
    assert rate.interval_s == usual


async def test_runs_that_share_an_account_divide_its_rate() -> None:
    """With three runs each takes every third turn."""
    clock = FakeClock()
    rate = Rate(3, clock)
    rate.sharers = 3
    passed = await passes(rate, clock, [0.0] * 3)
    assert [at - 1_000 for at in passed] == pytest.approx([0.0, 1.1, 2.2])


# ------------------------------------------------------------------------------------------------- places


async def enter(gate: Gate, deadline: float, inside: list[float], leave: asyncio.Event) -> None:
    """Go in, and out again when told."""
    async with gate.enter(START + timedelta(seconds=deadline)):
        inside.append(deadline)
        await leave.wait()


@given(
    places=st.integers(1, 4),
    deadlines=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    cancelled=st.sets(st.integers(0, 11)),
)
def test_the_earliest_deadline_goes_in_first(places: int, deadlines: list[int], cancelled: set[int]) -> None:
    """The first come fill the places, then deadlines decide, ties by arrival; who gives up loses no place."""

    async def play() -> tuple[list[float], int]:
        gate, inside = Gate(places), list[float]()
        leave = [asyncio.Event() for _ in deadlines]
        tasks = [
            asyncio.create_task(enter(gate, deadline, inside, event))
            for deadline, event in zip(deadlines, leave, strict=True)
        ]
        await asyncio.sleep(0)
        first = len(inside)
        for number in cancelled & set(range(places, len(tasks))):
            tasks[number].cancel()
        for event in leave:
            event.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        again = [asyncio.create_task(enter(gate, 0, [], asyncio.Event())) for _ in range(places + 1)]
        for _ in range(3):
            await asyncio.sleep(0)
        free = places + 1 - len(gate._waiting)
        for task in again:
            task.cancel()
        await asyncio.gather(*again, return_exceptions=True)
        assert first == min(places, len(tasks))
        return inside, free

    inside, free = asyncio.run(play())
    waited = [
        deadline for number, deadline in enumerate(deadlines) if number >= places and number not in cancelled
    ]
    assert inside == [*deadlines[:places], *sorted(waited)]
    assert free == places


async def test_a_place_given_to_somebody_who_leaves_is_given_on() -> None:
    """A waiter cancelled at the moment its turn comes passes the place on."""
    gate, inside = Gate(1), list[float]()
    leave, never = asyncio.Event(), asyncio.Event()
    holding = asyncio.create_task(enter(gate, 0, inside, leave))
    await asyncio.sleep(0)
    called = asyncio.create_task(enter(gate, 1, inside, never))
    after = asyncio.create_task(enter(gate, 2, inside, leave))
    await asyncio.sleep(0)
    leave.set()
    while not holding.done():
        await asyncio.sleep(0)
        called.cancel()
    await asyncio.wait_for(after, 5)
    assert 2 in inside


# -------------------------------------------------------------------------------------------------- delay


@given(
    tries=st.integers(1, 10_000),
    base=st.floats(0.001, 100),
    most=st.floats(0.001, 1_000),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_delay_grows_within_its_bounds(tries: int, base: float, most: float, draw: float) -> None:
    """A wait lies in the upper half of a ceiling that doubles up to its maximum."""
    seconds = delay(tries, base_s=base, wait_max_s=most, draw=draw)
    ceiling = min(base * 2 ** min(tries - 1, 30), most)
    assert ceiling / 2 <= seconds <= ceiling <= most
    assert delay(tries + 1, base_s=base, wait_max_s=most, draw=draw) >= seconds


@given(retry_after=st.floats(-10, 10_000), most=st.floats(0.001, 1_000), tries=st.integers(1, 99))
def test_advice_is_taken_within_reason(retry_after: float, most: float, tries: int) -> None:
    """`Retry-After` decides, give or take a tenth, but never before it nor before now."""
    advice = min(max(retry_after, 0), most)
    assert advice <= delay(tries, retry_after_s=retry_after, wait_max_s=most) <= advice * 1.1


def test_chance_spreads_the_delays() -> None:
    """Two who fail together do not come back together."""
    assert len({delay(5) for _ in range(20)}) > 1
    assert len({delay(5, retry_after_s=30) for _ in range(20)}) > 1


# ------------------------------------------------------------------------------------------------- clocks


def test_the_services_time_runs_from_its_last_word() -> None:
    """Our clock counts until the service has answered; then its word does, and the seconds since."""
    clock = FakeClock()
    service = ServiceClock(clock)
    assert (service.now(), service.last_seen) == (START, None)
    theirs = datetime(2026, 11, 23, tzinfo=UTC)
    service.observe(theirs)
    clock.seconds += 90
    assert (service.now(), service.last_seen) == (theirs + timedelta(seconds=90), theirs)
    service.observe(theirs - timedelta(hours=1))
    assert service.now() == theirs - timedelta(hours=1)


async def test_the_machines_clock_goes_on() -> None:
    """The real clock tells UTC, and its seconds never go back, asleep or awake."""
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0)
    assert clock.monotonic() >= before
    assert clock.now().utcoffset() == timedelta(0)
