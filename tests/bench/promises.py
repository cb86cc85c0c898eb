"""M1, M2, M3, M10: what is paid twice, lost, miscounted or overspent when things go wrong.

Everybody meets the same faults: answers lost after a submit took effect, requests dropped, 500s and 429s on polls. Ours
is also killed twice, once under a budget, and started again; the bill is the emulator's own.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from csv import DictReader
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.bench.account import Served, served
from tests.bench.figures import Figure, Value
from tests.bench.machine import BenchError, side_by_side
from tests.bench.ours import Ours
from tests.bench.peers import LOOP, SDK, run_peer
from tests.conftest import write_manifest
from tests.crash.books import read_books

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.machine import Running
    from tests.bench.setting import Setting

_SPEED = 300
_PRICE = {"720P": Decimal("0.10"), "1080P": Decimal("0.15")}
_PART = Decimal("0.6")
"""Of the whole cost, what the budget allows."""
_KILLED_AT = (Decimal("0.2"), Decimal("0.8"))
"""So much of the items at the service: under the budget, and without it."""
_STARTS = 10
_PATIENCE_S = 120.0
_MORE_TO_DO = 4
_FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "accept-then-drop", "every": 9},
    {"kind": "accept-then-5xx", "nth": 14},
    {"kind": "drop-before-accept", "nth": 5},
    *({"kind": "5xx", "on": "query", "nth": nth} for nth in (7, 40)),
    *({"kind": "throttle-rate", "on": "query", "nth": nth} for nth in (19, 50)),
    *({"kind": "drop-before-accept", "on": "query", "nth": nth} for nth in (29, 59)),
    {"kind": "5xx", "on": "list", "nth": 9},
    {"kind": "drop-before-accept", "on": "list", "nth": 21},
)


@dataclass(frozen=True, slots=True)
class _Outcome:
    twice: int
    lost: int
    unaccounted: Decimal
    over: Decimal
    parked: int = 0


def measure(setting: Setting, folder: Path, prefect: dict[str, str]) -> Iterator[Figure]:
    """Run every client on every seed; sums over the seeds, for these are gates."""
    clients = ("ours", SDK, LOOP)
    pairs = [(seed, client) for seed in setting.seeds for client in clients]
    with ExitStack() as stack:
        jobs = []
        for seed, client in pairs:
            account = stack.enter_context(served(seed=seed, speed=_SPEED))
            account.faults(*_FAULTS)
            home = folder / f"{client}-{seed}"
            home.mkdir()
            write_manifest(home / "m.csv", setting.faulted_items)
            jobs.append(
                partial(_ours if client == "ours" else partial(_peer, client), account, home, prefect)
            )
        outcomes = side_by_side(jobs)
    by_client: dict[str, list[_Outcome]] = {client: [] for client in clients}
    for (_, client), outcome in zip(pairs, outcomes, strict=True):
        by_client[client].append(outcome)
    edits, parked = setting.faulted_items * setting.runs, sum(one.parked for one in by_client["ours"])
    note = f"{edits} edits, {len(_FAULTS)} fault rules a run; ours killed {2 * setting.runs} times"
    shown = (
        ("M1", "edits paid twice", "twice", "", note),
        ("M2", "paid and lost", "lost", "", f"{parked} parked for a person, whose money is reserved"),
        (
            "M3",
            "ledger total off the bill",
            "unaccounted",
            "USD",
            "peers: of the bill, what they have no result for",
        ),
        ("M10", "spent beyond the budget", "over", "USD", "peers know no budget"),
    )
    for name, what, field, unit, told in shown:
        sums = {client: _total(getattr(one, field) for one in found) for client, found in by_client.items()}
        ours = sums.pop("ours")
        runs = [getattr(one, field) for one in by_client["ours"]]
        yield Figure(measure=name, what=what, unit=unit, ours=ours, goal=0, peers=sums, runs=runs, note=told)


def _total(values: Iterator[Value]) -> Value:
    return sum(map(Decimal, values), Decimal(0)).normalize() + 0


def _ours(account: Served, folder: Path, prefect: dict[str, str]) -> _Outcome:
    ours, cap = Ours(account, folder, prefect), _cap(folder / "m.csv")
    early, late = (int(part * _rows(folder / "m.csv")) for part in _KILLED_AT)
    budget = {"budget": f"{cap}/month"}
    _kill_at(ours.start(**budget), account, early)
    for _ in range(_STARTS):
        ran = ours.run(**budget)
        if ran.status != _MORE_TO_DO or "budget" in (ran.told["reason"] or ""):
            break
    over = account.billed() - cap
    _kill_at(ours.start(), account, late)
    for _ in range(_STARTS):
        if ours.run().status != _MORE_TO_DO:
            break
    books = read_books(account, folder / "m.csv", folder, journal=folder / "ledger" / "journal.db")
    return _Outcome(
        twice=books.paid_twice.total(),
        lost=books.lost.total(),
        unaccounted=abs(books.difference),
        over=max(over, Decimal(0)),
        parked=len(books.parked),
    )


def _kill_at(run: Running, account: Served, tasks: int) -> None:
    """Kill it once it has so many tasks at the service."""
    until = time.monotonic() + _PATIENCE_S
    while len(account.get("tasks")["tasks"]) < tasks:
        if time.monotonic() > until:
            run.kill()
            raise BenchError(f"it never had {tasks} tasks at the service")
        time.sleep(0.05)
    run.kill()
    run.ended(expected=(-9,))


def _peer(client: str, account: Served, folder: Path, _: dict[str, str]) -> _Outcome:
    has = set(run_peer(client, account, folder / "m.csv").told)
    prompts = {task["task_id"]: task["prompt"] for task in account.get("tasks")["tasks"]}
    time.sleep(300 / account.speed)  # what it gave up on is at work still
    charges = account.bill()
    paid = Counter(prompts[row["task_id"]] for row in charges)
    kept = {prompts[row["task_id"]]: Decimal(row["cost"]) for row in charges}
    total = sum((Decimal(row["cost"]) for row in charges), Decimal(0))
    return _Outcome(
        twice=paid.total() - len(paid),
        lost=len(paid.keys() - has),
        unaccounted=total - sum((kept[prompt] for prompt in has), Decimal(0)),
        over=max(total - _cap(folder / "m.csv"), Decimal(0)),
    )


def _cap(manifest: Path) -> Decimal:
    """Give a part of what the manifest costs when each edit is paid once."""
    with manifest.open(encoding="utf-8", newline="") as file:
        costs = [
            2 * Decimal(parse_qs(urlsplit(row["video"]).query)["seconds"][0]) * _PRICE[row["resolution"]]
            for row in DictReader(file)
        ]
    return (_PART * sum(costs, Decimal(0))).quantize(Decimal("0.01"))


def _rows(manifest: Path) -> int:
    return len(manifest.read_text(encoding="utf-8").splitlines()) - 1
