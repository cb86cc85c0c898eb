"""How many edits are let to the service: slots, a few ahead, strangers, refusals, and slots shared with others."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.test_pace import FakeClock
from wanbatch.settings import Limits
from wanbatch.window import LONG_PENDING, Place, Window

SHORT, LONG = timedelta(seconds=10), LONG_PENDING + timedelta(seconds=1)


class Pool:
    """Places that processes share; remembers how many are out."""

    def __init__(self, places: int) -> None:
        self._free = asyncio.Semaphore(places)
        self.out = 0
        self.taken = 0

    async def take(self) -> None:
        """Wait for a place."""
        await self._free.acquire()
        self.out += 1
        self.taken += 1

    def give_back(self) -> None:
        """Return one."""
        self.out -= 1
        self._free.release()


async def entered(window: Window, number: int) -> list[Place]:
    """Go in so many times, and arrive at the service each time."""
    places = [await asyncio.wait_for(window.enter(), 5) for _ in range(number)]
    for place in places:
        place.arrived()
    return places


async def settle() -> None:
    """Let everybody who can do something do it."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_slots_and_a_few_ahead_go_in() -> None:
    """Five slots let seven in, in their order, and the eighth when one has left."""
    window = Window(Limits(), FakeClock())
    places = await entered(window, 7)
    waiting = asyncio.create_task(window.enter())
    await settle()
    assert not waiting.done()
    places[0].leave()
    places[0].leave()  # once more changes nothing
    await settle()
    assert (waiting.done(), window.taken) == (True, 7)


def test_many_slots_queue_more_ahead() -> None:
    """The more slots, the more of them end while nobody looks, and so many more are queued."""
    assert [Limits(slots=slots).window for slots in (1, 5, 40, 500)] == [3, 7, 43, 541]


async def test_a_service_that_queues_nothing_gets_as_many_as_it_runs() -> None:
    """A refusal for their number narrows the window to what is there; who was refused goes in before all others."""
    clock = FakeClock()
    window = Window(Limits(), clock)
    places = await entered(window, 5)
    refused = [await window.enter() for _ in range(2)]
    for place in refused:
        window.refused()
        place.leave()
    again = asyncio.create_task(window.enter(first=True))
    later = asyncio.create_task(window.enter())
    await settle()
    assert (window.places, window.refuses, again.done()) == (5, True, False)
    places[0].leave()
    await settle()
    assert (again.done(), later.done()) == (True, False)
    clock.seconds += 700  # it may queue again by now
    window.seen(running=5, pending=0, waits=SHORT)
    await settle()
    assert (window.places, window.refuses, later.done()) == (7, False, True)


async def test_refused_below_the_slots_tries_one_more_now_and_then() -> None:
    """Where strangers hold slots of a service that queues nothing, one more is tried every half minute."""
    clock = FakeClock()
    window = Window(Limits(), clock)
    await entered(window, 2)
    window.refused()
    found = []
    for _ in range(6):
        clock.seconds += 31
        window.seen(running=2, pending=0, waits=timedelta(0))
        found.append(window.places)
    assert found == [3, 4, 5, 5, 5, 5]


async def test_strangers_in_the_slots_narrow_the_window_and_their_end_widens_it() -> None:
    """An edit that waits for long waits for strangers: no more than those that run and two ahead stay there."""
    window = Window(Limits(), FakeClock())
    await entered(window, 7)
    window.seen(running=0, pending=7, waits=SHORT)  # just sent
    assert window.places == 7
    window.seen(running=2, pending=5, waits=LONG)
    assert window.places == 4
    window.seen(running=3, pending=1, waits=SHORT)
    assert window.places == 5
    window.seen(running=5, pending=0, waits=SHORT)
    assert window.places == 7


async def test_what_is_at_the_service_already_waits_for_no_place() -> None:
    """Edits of an earlier run are fetched however full the window is, and count in it."""
    window = Window(Limits(slots=1), FakeClock(), shared=Pool(0))
    old = [window.occupy() for _ in range(9)]
    assert (window.taken, window.at_service) == (9, 9)
    for place in old:
        place.leave()
    assert (window.taken, window.at_service) == (0, 0)


def make(move: str, window: Window, clock: FakeClock, tasks: list[asyncio.Task[Place]]) -> None:
    """Let one thing happen to a window; `tasks` are those inside and those that wait."""
    inside = [task for task in tasks if task.done()]
    waiting = [task for task in tasks if not task.done()]
    if move == "enter":
        tasks.append(asyncio.create_task(window.enter()))
    elif move == "leave" and inside:
        inside[0].result().leave()
        tasks.remove(inside[0])
    elif move == "cancel" and waiting:
        waiting[-1].cancel()
    elif move == "refused":
        window.refused()
    elif move == "strangers":
        window.seen(running=1, pending=4, waits=LONG)
    elif move == "alone":
        clock.seconds += 1_000
        window.seen(running=5, pending=0, waits=SHORT)


@given(st.lists(st.sampled_from(["enter", "leave", "refused", "strangers", "alone", "cancel"]), max_size=60))
def test_no_place_is_lost_or_given_twice(moves: list[str]) -> None:
    """Whatever happens, those inside are counted right, shared places come back, and the last one gets in."""

    async def play() -> None:
        pool = Pool(6)
        clock = FakeClock()
        window = Window(Limits(), clock, shared=pool)
        tasks: list[asyncio.Task[Place]] = []
        for move in moves:
            make(move, window, clock, tasks)
            await settle()
            tasks = [task for task in tasks if not task.cancelled()]
        while tasks:  # let everybody through
            clock.seconds += 1_000
            window.seen(running=5, pending=0, waits=SHORT)
            await settle()
            inside = [task for task in tasks if task.done()]
            assert inside
            assert len(inside) <= pool.out <= 6
            for task in inside:
                task.result().leave()
            tasks = [task for task in tasks if task not in inside]
        await settle()
        assert (window.taken, window.at_service) == (0, 0)
        assert pool.out - window._spare == 0

    asyncio.run(play())


async def test_a_run_hands_its_share_on_and_gives_the_rest_back() -> None:
    """Within our share a shared place goes to our next edit unasked; beyond it, others are let first."""
    clock = FakeClock()
    pool = Pool(7)
    window = Window(Limits(), clock, shared=pool)
    places = await entered(window, 7)
    waiting = [asyncio.create_task(window.enter()) for _ in range(7)]
    await settle()
    places[0].leave()
    await settle()
    assert (pool.taken, waiting[0].done()) == (7, True)
    window.runs = 2  # a second run has come: four of the seven are ours
    places[1].leave()
    await settle()
    assert (pool.out, waiting[1].done()) == (6, False)
    theirs = asyncio.create_task(pool.take())
    await settle()
    assert theirs.done()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
