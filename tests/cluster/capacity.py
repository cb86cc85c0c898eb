"""What accounts and machines finish in a day: `python -m tests.cluster.capacity` prints the table of docs/scale.md.

The costs of an item were measured by `make cluster-test`; its figures as JSON on standard input take their place
with `python -m tests.cluster.capacity -`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from typing import Any

from wanbatch.pace import POLL_INTERVAL_S, Rate
from wanbatch.settings import Limits

DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one edit costs the machines, on the two cores that `make cluster-test` ran on."""

    worker_cpu_ms: float = 76.0
    server_cpu_ms: float = 81.0
    postgres_cpu_ms: float = 19.0
    journal_commits: float = 14.5
    task_runs: float = 4.0
    prefect_events: float = 12.1
    journal_bytes: float = 2_900
    prefect_bytes: float = 87_000
    ledger_bytes: float = 1_470
    run_memory_mb: float = 290.0
    """Of one run's process, however many slots it keeps full."""

    @classmethod
    def measured(cls, told: dict[str, Any]) -> Costs:
        """Take them from what the cluster test prints."""
        names = {"workers_cpu_ms": "worker_cpu_ms"}
        known = {names.get(name, name): value for name, value in told["per_item"].items()}
        return replace(cls(), **{name: known[name] for name in cls.__slots__ if name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """So many accounts of so many slots, each kept full by so many runs."""

    accounts: int = 1
    slots: int = 5
    runs: int = 1
    """Of each account."""
    edit_s: float = 188.0
    video_mb: float = 12.0
    """Of one finished video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a fleet finishes, and what that asks of the machines."""

    items_per_s: float
    items_per_day: float
    worker_cores: float
    server_cores: float
    postgres_cores: float
    memory_gb: float
    journal_commits_per_s: float
    lists_per_s: float
    prefect_gb_per_day: float
    journal_gb_per_day: float
    ledger_gb_per_day: float
    videos_gb_per_day: float
    videos_mbit_per_s: float


def load(fleet: Fleet, costs: Costs) -> Load:
    """Say what a fleet finishes: as many as its slots let through, or its submit rates where those are less."""
    an_account = min(fleet.slots / fleet.edit_s, Limits().submit_rate / Rate.SLACK)
    items = fleet.accounts * an_account
    runs = fleet.accounts * fleet.runs

    def gb_per_day(size: float) -> float:
        return items * DAY_S * size / 1e9

    return Load(
        items_per_s=items,
        items_per_day=items * DAY_S,
        worker_cores=items * costs.worker_cpu_ms / 1000,
        server_cores=items * costs.server_cpu_ms / 1000,
        postgres_cores=items * costs.postgres_cpu_ms / 1000,
        memory_gb=runs * costs.run_memory_mb / 1000,
        journal_commits_per_s=items * costs.journal_commits,
        lists_per_s=runs / POLL_INTERVAL_S,
        prefect_gb_per_day=gb_per_day(costs.prefect_bytes),
        journal_gb_per_day=gb_per_day(costs.journal_bytes),
        ledger_gb_per_day=gb_per_day(costs.ledger_bytes),
        videos_gb_per_day=gb_per_day(fleet.video_mb * 1e6),
        videos_mbit_per_s=items * fleet.video_mb * 8,
    )


FLEETS = {
    "1 of 5": Fleet(),
    "1 of 500": Fleet(slots=500),
    "100 of 5": Fleet(accounts=100),
    "20 of 500": Fleet(accounts=20, slots=500),
}
"""Accounts, of so many slots each."""


def most_items_per_s(costs: Costs, *, cores: float = 1.0) -> float:
    """Say how many items a second one Prefect server follows: it is one process, on one core."""
    return 1000 * cores / costs.server_cpu_ms


def table(costs: Costs) -> str:
    """Give the loads of the fleets as a Markdown table."""
    loads = {name: load(fleet, costs) for name, fleet in FLEETS.items()}
    lines = ["| | " + " | ".join(loads) + " |", "| --- |" + " ---: |" * len(loads)]
    for field in Load.__slots__:
        cells = [f"{getattr(each, field):,.{_digits(getattr(each, field))}f}" for each in loads.values()]
        lines.append(f"| {field.replace('_per_', ' per ').replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 1 else 3


def main() -> None:
    """Print the table."""
    costs = Costs.measured(json.load(sys.stdin)) if "-" in sys.argv[1:] else Costs()
    print(table(costs))  # noqa: T201 - a command's output


if __name__ == "__main__":
    main()
