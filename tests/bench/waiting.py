"""M4, M5, M7: how long a batch takes, how soon an end is known and at what price, and the CPU of it all."""

from __future__ import annotations

import heapq
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.bench.account import Served, served
from tests.bench.figures import Figure, middle
from tests.bench.machine import side_by_side
from tests.bench.ours import Ours
from tests.bench.peers import LOOP, SDK, run_peer
from tests.conftest import write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.bench.setting import Setting

OURS = "ours"
_SLOTS = 5
_SUBMITS_A_SECOND = 5
_PEERS = (SDK, LOOP)
Trip = dict[str, dict[str, float]]
"""By client and figure."""


@dataclass(frozen=True, slots=True)
class Times:
    """A provider task's, in seconds since the first submit."""

    submitted: float
    ran: float
    ended: float


def measure(setting: Setting, folder: Path, prefect: dict[str, str]) -> Iterator[Figure]:
    """Run all clients side by side, an account each, once a seed; and once more at another speed."""
    trips = [_trip(setting, seed, setting.speed, folder / f"seed-{seed}", prefect) for seed in setting.seeds]
    other = _trip(setting, setting.seed, setting.other_speed, folder / "other", prefect)
    found = {client: middle(trip[client] for trip in trips) for client in (OURS, *_PEERS)}
    ours = [trip[OURS] for trip in trips]
    yield from _pace(found, ours, note=f"{setting.speed} times as fast as life")
    yield from _pace(other, [other[OURS]], note=f"{setting.other_speed} times as fast as life, one run")
    yield Figure(
        measure="M7",
        what="CPU per item, an empty run's taken off",
        unit="ms",
        ours=found[OURS]["cpu"],
        goal=20,
        peers={peer: found[peer]["cpu"] for peer in _PEERS},
        runs=[run["cpu"] for run in ours],
        note="ours with Prefect's client, journal, ledger and checks; the peers keep no books",
    )


def _pace(found: Trip, ours: list[dict[str, float]], *, note: str) -> Iterator[Figure]:
    floor = found[OURS]["floor"]
    rows = (
        ("M4", "makespan ratio", "ratio", "", 1.01, f"{note}; with slots that never idle {floor:.4f}"),
        ("M4", "makespan over that of slots that never idle", "idle", "", 1.01, note),
        ("M5", "end to known, mean", "lag", "s", 2.5, note),
        ("M5", "queries a task", "queries", "", 2, note),
        ("M5", "list calls a second", "lists", "", 0.5, note),
    )
    for measure_, what, name, unit, goal, told in rows:
        yield Figure(
            measure=measure_,
            what=what,
            unit=unit,
            ours=found[OURS][name],
            goal=goal,
            peers={peer: found[peer][name] for peer in _PEERS},
            runs=[run[name] for run in ours],
            note=told,
        )


def _trip(setting: Setting, seed: int, speed: float, folder: Path, prefect: dict[str, str]) -> Trip:
    clients = (OURS, *_PEERS)
    with ExitStack() as stack:
        accounts = [stack.enter_context(served(seed=seed, speed=speed)) for _ in clients]
        jobs = [
            partial(_ride, client, account, folder / client, setting.items, prefect)
            for client, account in zip(clients, accounts, strict=True)
        ]
        return dict(zip(clients, side_by_side(jobs), strict=True))


def _ride(
    client: str, account: Served, folder: Path, items: int, prefect: dict[str, str]
) -> dict[str, float]:
    folder.mkdir(parents=True)
    manifest = write_manifest(folder / "m.csv", items)
    if client == OURS:
        ours = Ours(account, folder, prefect)
        full = ours.run()
        found = _seen(account)
        empty = ours.run()  # all is done: it starts, looks and ends
    else:
        full = run_peer(client, account, manifest)
        found = _seen(account)
        empty = run_peer(client, account, write_manifest(folder / "empty.csv", 0))
    return found | {"cpu": 1000 * (full.cpu_s - empty.cpu_s) / items}


def _seen(account: Served) -> dict[str, float]:
    """Read the emulator's own record of a run."""
    log, tasks = account.log(), account.get("tasks")["tasks"]
    times = _times(tasks)
    makespan = max(one.ended for one in times)
    ideal = max(sum(one.ran for one in times) / _SLOTS, len(times) / _SUBMITS_A_SECOND)
    told = [log.told[task["task_id"]] / 1000 - _moment(task["ended_at"]) for task in tasks]
    floor = never_idle([one.ran for one in times], _SLOTS)
    return {
        "ratio": makespan / ideal,
        "floor": floor / ideal,
        "idle": makespan / floor,
        "lag": sum(told) / len(told),
        "queries": len(log.calls["query"]) / len(tasks),
        "lists": len(log.calls["list"]) / makespan,
    }


def _times(tasks: list[dict[str, Any]]) -> list[Times]:
    """Give the tasks' times in the order of their submits."""
    told = sorted(
        (_moment(task["submitted_at"]), _moment(task["scheduled_at"]), _moment(task["ended_at"]))
        for task in tasks
    )
    first = told[0][0]
    return [Times(submitted - first, ended - started, ended - first) for submitted, started, ended in told]


def never_idle(run_times: Iterable[float], slots: int) -> float:
    """Give the makespan of tasks taken in this order by slots that never wait: nobody does better in it."""
    free = [0.0] * slots
    for run_time in run_times:
        heapq.heapreplace(free, free[0] + run_time)
    return max(free)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
