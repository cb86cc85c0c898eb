"""M6: the busiest second of each kind of call, and the most edits at work, as the emulator saw them.

In real time, with the real limits enforced: 5 submits and 20 queries a second, 5 edits at once. The edits are so short
that the limits are what holds a client up.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from tests.bench.account import Served, served
from tests.bench.figures import Figure
from tests.bench.machine import side_by_side
from tests.bench.ours import Ours
from tests.bench.peers import LOOP, SDK, run_peer
from tests.conftest import write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.setting import Setting

_OURS = "ours"
_REAL = {"speed": 1, "submit_rate": 5, "query_rate": 20, "min_run_s": 0.5, "mean_run_s": 1, "max_run_s": 1.5}
_POLL_S = 0.5
_PACE = {SDK: 1.0, LOOP: 15.0}
"""The loop looks every second here; the SDK begins with a second by itself."""
_SHOWN = (
    ("submit_per_second", "submits in the busiest second", 5),
    ("running", "edits at once", 5),
    ("query_per_second", "queries in the busiest second", 20),
    ("list_per_second", "list calls in the busiest second", 20),
)


def measure(setting: Setting, folder: Path, prefect: dict[str, str]) -> Iterator[Figure]:
    """Run all clients side by side, an account each, once a seed; the worst of them counts."""
    clients = (_OURS, SDK, LOOP)
    runs: list[dict[str, dict[str, int]]] = []
    for seed in setting.seeds:
        with ExitStack() as stack:
            accounts = [stack.enter_context(served(seed=seed, **_REAL)) for _ in clients]
            jobs = [
                partial(_peaks, client, account, folder / f"{client}-{seed}", setting.limit_items, prefect)
                for client, account in zip(clients, accounts, strict=True)
            ]
            runs.append(dict(zip(clients, side_by_side(jobs), strict=True)))
    for name, what, limit in _SHOWN:
        peaks = {client: [run[client][name] for run in runs] for client in clients}
        yield Figure(
            measure="M6",
            what=what,
            unit="",
            ours=max(peaks[_OURS]),
            goal=limit,
            peers={client: max(peaks[client]) for client in clients if client != _OURS},
            runs=peaks[_OURS],
            note="the worst of all runs; in real time, limits enforced",
        )


def _peaks(client: str, account: Served, folder: Path, items: int, prefect: dict[str, str]) -> dict[str, int]:
    folder.mkdir()
    manifest = write_manifest(folder / "m.csv", items)
    if client == _OURS:
        Ours(account, folder, prefect).run(poll_interval=_POLL_S)
    else:
        run_peer(client, account, manifest, speed=_PACE[client])
    peaks: dict[str, int] = account.get("limits")
    return peaks
