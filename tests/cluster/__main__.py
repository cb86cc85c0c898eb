"""A cluster on one machine, one of whose workers dies: `python -m tests.cluster [ROWS]`.

PostgreSQL, a Prefect server on it, two workers, one migration of four shards on one emulated account. In the middle one
worker is killed with everything it runs, and another takes its place. Then the books are held against the bill,
and the account's limits against what it saw. Prints the figures that docs/scale.md is made of, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.slots import holding
from tests.cluster.capacity import Costs
from tests.cluster.machines import BIN, Machine, make_database, postgres, prefect_server, started
from tests.conftest import KEY, write_manifest
from wanbatch.emulator.config import EmulatorConfig
from wanbatch.emulator.server import Emulator, in_thread
from wanbatch.emulator.task import Status
from wanbatch.journal import Journal
from wanbatch.lease import HEARTBEAT_S
from wanbatch.ledger import Ledger
from wanbatch.settings import ADDRESS_VARIABLE, JOURNAL_VARIABLE, KEY_VARIABLE, Limits

SLOTS, SUBMIT_RATE, QUERY_RATE = 20, 20, 80
"""Four times those of a new account, and edits of a second and a half: two hours of an account in minutes."""
SHARDS = 4
WINDOW = Limits(slots=SLOTS).window
KILL_AT = 0.35
"""How far the migration is when the worker dies."""


class Watch:
    """Looks at everything several times a second: who has how many edits at the service, and what CPU was used."""

    def __init__(self, emulator: Emulator, machines: dict[str, Machine]) -> None:
        self.emulator = emulator
        self.machines = machines
        self.most_open = 0

    @property
    def open_now(self) -> int:
        """How many edits the service has right now."""
        return sum(
            task.status in {Status.PENDING, Status.RUNNING} for task in self.emulator.state.tasks()[-500:]
        )

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            self.most_open = max(self.most_open, self.open_now)
            for machine in tuple(self.machines.values()):
                machine.look()
            await asyncio.sleep(0.25)

    def cpu_s(self) -> dict[str, float]:
        """Give the CPU seconds of each machine so far."""
        return {name: round(machine.cpu_s, 2) for name, machine in self.machines.items()}


@dataclass
class Before:
    """What had been used and counted before the first row was edited: the price of starting, not of an item."""

    cpu_s: dict[str, float]
    calls: dict[str, int]
    sums: dict[str, int]


async def story(rows: int, folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Run it all; gives the figures, and raises `AssertionError` when a promise is broken."""
    cluster = await Cluster.start(folder, stack)
    doomed, _ = cluster.worker("worker-1"), cluster.worker("worker-2")
    manifest = str(write_manifest(folder / "m.csv", rows))
    journal = Journal.open(cluster.journal_url)
    stack.callback(journal.close)
    watch = Watch(cluster.emulator, cluster.machines)
    watching = asyncio.create_task(watch.run())

    with temporary_settings({PREFECT_API_URL: cluster.api}):
        async with holding("account") as ours:  # nobody begins before all know of each other
            for _ in range(WINDOW):
                await ours.take()
            migration = cluster.migration(manifest)
            await _until(lambda: journal.live_runs("emulator") == SHARDS, 240)
            await asyncio.sleep(HEARTBEAT_S + 1)
            before = Before(watch.cpu_s(), _limits(cluster.emulator)["calls"], cluster.sums())
    began = time.monotonic()
    await _until(lambda: journal.rows_settled(manifest) > rows * KILL_AT, 600)
    most_before = watch.most_open
    left_behind, steady = watch.open_now, _limits(cluster.emulator)
    doomed.die()
    cluster.worker("worker-3")
    code = await asyncio.to_thread(migration.process.wait, 900)
    took_s = time.monotonic() - began
    assert code == 0, (folder / "migration.log").read_text()
    lag_s = await _recorded(cluster.api)
    watching.cancel()

    limits = _limits(cluster.emulator)
    _hold(rows, cluster.emulator, journal, folder)
    _hold_limits(steady)
    assert limits["running"] <= SLOTS
    assert most_before <= WINDOW, f"{most_before} edits at the service, with a window of {WINDOW}"
    assert watch.most_open <= WINDOW + left_behind, (watch.most_open, left_behind)
    (table,) = _artifacts(cluster.api, "migration-totals")
    assert sum(int(row["attempts"]) for row in json.loads(table["data"])) == rows, table["data"]
    figures = _per_item(rows, cluster, watch, before, limits["calls"])
    _hold_model(figures)
    return {
        "rows": rows,
        "took_s": round(took_s, 1),
        "most_open": watch.most_open,
        "left_behind": left_behind,
        "submit_per_second": limits["submit_per_second"],
        "per_item": figures | {"ledger_bytes": round(_bytes(folder / "ledger") / rows)},
        "recorder_lag_s": round(lag_s, 1),
        "start_of_a_run_cpu_s": round(before.cpu_s["worker-2"] / 2, 1),
    }


def _per_item(
    rows: int, cluster: Cluster, watch: Watch, before: Before, calls: dict[str, int]
) -> dict[str, float]:
    spent = {name: seconds - before.cpu_s.get(name, 0.0) for name, seconds in watch.cpu_s().items()}
    workers = sum(seconds for name, seconds in spent.items() if name.startswith("worker"))
    return {
        "workers_cpu_ms": round(1000 * workers / rows, 1),
        "server_cpu_ms": round(1000 * spent["server"] / rows, 1),
        "postgres_cpu_ms": round(1000 * spent.get("postgres", 0.0) / rows, 1),
        **{f"{name}_calls": round((calls[name] - before.calls[name]) / rows, 2) for name in calls},
        **{name: round((after - before.sums[name]) / rows, 2) for name, after in cluster.sums().items()},
    }


def _hold_model(figures: dict[str, float]) -> None:
    """See that docs/scale.md still counts right: what an item writes does not depend on the machine."""
    for name in ("task_runs", "prefect_events", "journal_commits"):
        expected = getattr(Costs(), name)
        assert 0.6 < figures[name] / expected < 1.6, f"{name}: {figures[name]} an item, not {expected}"


@dataclass
class Cluster:
    """The servers, and the workers that come and go."""

    emulator: Emulator
    api: str
    database: str
    journal_url: str
    prefect_url: str
    machines: dict[str, Machine]
    folder: Path
    stack: ExitStack
    environment: dict[str, str]

    @classmethod
    async def start(cls, folder: Path, stack: ExitStack) -> Cluster:
        """Start everything but the workers."""
        config = EmulatorConfig(
            key=KEY,
            render=False,
            slots=SLOTS,
            submit_rate=SUBMIT_RATE,
            query_rate=QUERY_RATE,
            mean_run_s=1.5,
            min_run_s=0.8,
            max_run_s=2.4,
        )
        emulator = stack.enter_context(in_thread(config))
        database, database_machine = stack.enter_context(postgres(folder))
        journal_url, prefect_url = make_database(database, "journal"), make_database(database, "prefect")
        api, server = stack.enter_context(prefect_server(folder, prefect_url))
        machines = {"server": server} | ({"postgres": database_machine} if database_machine else {})
        environment = {
            "PREFECT_API_URL": api,
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            KEY_VARIABLE: KEY,
            ADDRESS_VARIABLE: emulator.url,
            JOURNAL_VARIABLE: journal_url,
        }
        await _prepare(folder, environment)
        return cls(emulator, api, database, journal_url, prefect_url, machines, folder, stack, environment)

    def worker(self, name: str) -> Machine:
        """Start a worker that takes two runs at once."""
        words = ["worker", "start", "--pool", "wanbatch", "--name", name, "--limit", "2"]
        return self._started(name, [str(BIN / "prefect"), *words])

    def migration(self, manifest: str) -> Machine:
        """Start the migration of a manifest."""
        options = {
            "manifest": manifest,
            "service": "emulator",
            "ledger": str(self.folder / "ledger"),
            "videos": str(self.folder / "videos"),
            "probe": False,
            "poll_interval": 0.5,
            "shared_slots": "account",
            "slots": SLOTS,
            "submit_rate": SUBMIT_RATE,
            "query_rate": QUERY_RATE,
        }
        program = (
            "import asyncio, flows.migrate as m; "
            f"asyncio.run(m.migrate(m.RunOptions(**{options!r}), shards={SHARDS}))"
        )
        return self._started("migration", [sys.executable, "-c", program])

    def _started(self, name: str, command: list[str]) -> Machine:
        log = self.folder / f"{name}.log"
        self.machines[name] = self.stack.enter_context(started(command, log, **self.environment))
        return self.machines[name]

    def sums(self) -> dict[str, int]:
        """Count what the databases hold, and what was committed to the journal."""
        size = "SELECT pg_database_size(current_database())"
        commits = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'journal'"
        return {
            "journal_commits": _ask(self.database, commits),
            "journal_bytes": _ask(self.journal_url, size),
            "prefect_bytes": _ask(self.prefect_url, size),
            "task_runs": _ask(self.prefect_url, "SELECT count(*) FROM task_run"),
            "prefect_events": _ask(self.prefect_url, "SELECT count(*) FROM events"),
        }


def _hold_limits(steady: dict[str, Any]) -> None:
    """Hold the calls against the limits, among runs that know each other: a new one does after a heartbeat."""
    assert steady["submit_per_second"] <= SUBMIT_RATE, steady
    assert max(steady["query_per_second"], steady["list_per_second"]) <= QUERY_RATE, steady
    assert not any(steady["throttled"].values()), steady


def _hold(rows: int, emulator: Emulator, journal: Journal, folder: Path) -> None:
    """Hold the books against the bill."""
    bill = {row["task_id"]: Decimal(row["cost"]) for row in _get(emulator, "bill")["rows"]}
    attempts = Ledger(str(folder / "ledger")).read_attempts().to_pylist()
    booked = {row["task_id"]: row["cost"] for row in attempts if row["status"] == "succeeded"}
    assert booked == bill, "the ledger is not the bill"
    assert Counter(row["key"] for row in attempts).most_common(1)[0][1] == 1, "an item was edited twice"
    assert len(attempts) == len(bill) == rows, f"{len(attempts)} attempts, {len(bill)} billed, {rows} rows"
    assert journal.open_attempts() == []
    files = {path.name for path in (folder / "videos").glob("*.mp4")}
    assert files == {Path(row["output"]).name for row in attempts}


async def _prepare(folder: Path, environment: dict[str, str]) -> None:
    """Make the pool, the limit and the deployments, as deployments/README.md says."""
    for command in (
        ["work-pool", "create", "wanbatch", "--type", "process"],
        ["gcl", "create", "account", "--limit", str(WINDOW)],
        ["--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml"],
    ):
        with started([str(BIN / "prefect"), *command], folder / "prefect.log", **environment) as machine:
            assert await asyncio.to_thread(machine.process.wait, 120) == 0, command


async def _until(truth: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(truth):  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(0.5)


async def _recorded(api: str) -> float:
    """Wait until Prefect's recorder has nothing left to write; says how long that took after the last run."""
    began, last, last_at = time.monotonic(), -1, time.monotonic()
    async with httpx.AsyncClient(timeout=60) as http:
        while time.monotonic() - last_at < 10:
            with suppress(httpx.HTTPError):
                done = (await http.post(f"{api}/task_runs/count", json={})).json()
                if done != last:
                    last, last_at = done, time.monotonic()
            await asyncio.sleep(0.5)
    return last_at - began


def _get(emulator: Emulator, page: str) -> Any:
    answer = httpx.get(f"{emulator.origin}/_emulator/{page}", timeout=60).raise_for_status()
    return json.loads(answer.content, parse_float=Decimal)


def _limits(emulator: Emulator) -> dict[str, Any]:
    told: dict[str, Any] = _get(emulator, "limits")
    return told


def _artifacts(api: str, key: str) -> list[dict[str, Any]]:
    answer = httpx.post(
        f"{api}/artifacts/filter", json={"artifacts": {"key": {"any_": [key]}}}, timeout=30
    ).raise_for_status()
    found: list[dict[str, Any]] = answer.json()
    return found


def _ask(url: str, question: str) -> int:
    with psycopg.connect(url) as db:
        row = db.execute(question.encode()).fetchone()
    return int(row[0]) if row else 0


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(rows: int) -> None:
    """Tell the story, and print its figures."""
    with tempfile.TemporaryDirectory(prefix="wanbatch-cluster-") as name, ExitStack() as stack:
        try:
            figures = asyncio.run(story(rows, Path(name), stack))
        except BaseException:
            for log in sorted(Path(name).glob("*.log")):
                sys.stderr.write(
                    f"--- {log.name}\n" + "".join(log.read_text().splitlines(keepends=True)[-30:])
                )
            raise
    print(json.dumps(figures, indent=2))  # noqa: T201 - a command's output


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
