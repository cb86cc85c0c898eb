"""The slots of one account among several runs, through a real Prefect server."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.slots import holding, open_shared
from tests.conftest import WANBATCH, Account, emulated, environment, options, point_to, write_manifest
from tests.test_flow import serving_prefect
from wanbatch import walk
from wanbatch.errors import ExitCode, UsageError
from wanbatch.summary import summarise

pytestmark = [pytest.mark.long, pytest.mark.timeout(400), pytest.mark.xdist_group("shared-slots")]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the API address of a Prefect server that looks for ended leases every second."""
    os.environ["PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS"] = "1"
    try:
        with serving_prefect(tmp_path_factory.mktemp("prefect")) as (served, _):
            yield served
    finally:
        del os.environ["PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS"]


@pytest.fixture
async def limit(api: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Give the name of a limit of five slots, on the server that the process now uses."""
    name = request.node.name.replace("_", "-")
    make(api, name, 5)
    with temporary_settings({PREFECT_API_URL: api}):
        yield name


def make(api: str, name: str, slots: int) -> None:
    """Make a limit."""
    answer = httpx.post(f"{api}/v2/concurrency_limits/", json={"name": name, "limit": slots}, timeout=30)
    answer.raise_for_status()


def active(api: str, name: str) -> int:
    """Ask the server how many slots of a limit are taken."""
    told = httpx.get(f"{api}/v2/concurrency_limits/{name}", timeout=30).raise_for_status().json()
    return int(told["active_slots"])


async def until(truth: Any, seconds: float = 30.0) -> None:
    """Wait until something is true; a test that waits in vain fails."""
    async with asyncio.timeout(seconds):
        while not truth():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.1)


async def test_a_limit_that_is_not_there_is_an_error_that_says_how_to_make_it(limit: str) -> None:
    """Without its limit a run does not start: no limit would be no protection."""
    with pytest.raises(UsageError, match="prefect gcl create no-such --limit 7"):
        async with holding("no-such"):
            pass
    assert limit


async def test_two_holders_never_have_more_than_the_limit(api: str, limit: str) -> None:
    """The sixth slot waits until one is given back, and at the end none is taken."""
    async with holding(limit) as one, holding(limit) as other:
        for _ in range(3):
            await one.take()
        for _ in range(2):
            await other.take()
        waiting = asyncio.create_task(other.take())
        await asyncio.sleep(1)
        assert not waiting.done()
        assert active(api, limit) == 5
        one.give_back()
        await waiting
        assert (one.held, other.held, active(api, limit)) == (2, 3, 5)
    assert active(api, limit) == 0


async def test_a_slot_goes_from_hand_to_hand_within_a_process(api: str, limit: str) -> None:
    """What one edit gives back while another waits does not go to the server and back."""
    async with holding(limit) as held:
        for _ in range(5):
            await held.take()
        waiting = asyncio.create_task(held.take())
        await asyncio.sleep(0.5)
        held.give_back()
        await asyncio.wait_for(waiting, 1)
        assert (held.held, active(api, limit)) == (5, 5)


async def test_who_stops_asking_leaves_nothing_behind(api: str, limit: str) -> None:
    """A question that is cancelled while the server answers it takes no slot for good."""
    async with holding(limit) as held:
        for pause in (0.0, 0.005, 0.01, 0.02, 0.04):
            asking = asyncio.create_task(held.take())
            await asyncio.sleep(pause)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await asyncio.sleep(0.5)
        kept = held.held
        await until(lambda: active(api, limit) == kept)


async def test_the_slots_of_a_killed_process_come_back_when_their_leases_end(api: str, limit: str) -> None:
    """Who dies holds its slots for its lease, and no longer."""
    holder = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time
        [sys.executable, "-m", "tests.slot_holder", limit, "3"],
        env=os.environ | {"PREFECT_API_URL": api},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    with holder.stdout:
        assert await asyncio.to_thread(holder.stdout.readline) == "held\n"
    holder.kill()
    holder.wait(10)
    assert active(api, limit) == 3
    await until(lambda: active(api, limit) == 0, 90)


async def test_without_a_server_nothing_new_is_taken_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that goes away costs nothing that is in flight; the run takes on nothing new, and can be stopped."""
    manifest = write_manifest(tmp_path / "m.csv", 8)
    with (
        emulated(speed=40.0) as account,
        serving_prefect(tmp_path / "prefect") as (api, server),
        temporary_settings({PREFECT_API_URL: api}),
        caplog.at_level(logging.WARNING, "wanbatch.flows"),
    ):
        point_to(account, monkeypatch)
        make(api, "account", 2)
        async with open_shared(options(tmp_path, manifest, shared_slots="account")) as session:
            running = asyncio.ensure_future(walk.edit_videos(session, walk.Steps()))
            await until(lambda: session.window.at_service == 2)
            server.kill()
            server.wait(10)
            await until(lambda: session.progress.counts["succeeded"] == 2)
            await until(lambda: "does not give slots of account" in caplog.text)
            session.stop("enough", ExitCode.INCOMPLETE)
            await asyncio.wait_for(running, 30)
            summary = await summarise(session)
        assert summary.exit_code is ExitCode.INCOMPLETE
        assert len(account.bill()) == summary.counts["succeeded"]


def start(folder: Path, account: Account, api: str, rows: str, limit: str) -> subprocess.Popen[str]:
    """Start a run of some rows, with the limits that an account usually has."""
    command = [
        *(str(WANBATCH), "run", "m.csv", "--service", "emulator", "--no-probe", "--poll-interval", "0.5"),
        *("--rows", rows, "--shared-slots", limit),
    ]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(account, folder / "prefect") | {"PREFECT_API_URL": api},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


async def test_two_runs_of_one_account_keep_to_its_limits_together(
    tmp_path: Path, api: str, limit: str
) -> None:
    """No edit too many, no submit or query too fast: the service, which refuses what is too much, refuses nothing.

    Both runs wait until each knows of the other, which takes a heartbeat; then nothing but limits holds them.
    """
    write_manifest(tmp_path / "m.csv", 30)
    quick = {"mean_run_s": 0.4, "min_run_s": 0.2, "max_run_s": 0.8}
    with emulated(speed=1.0, submit_rate=5, query_rate=20, overflow="reject", **quick) as account:
        async with holding(limit) as ours:
            for _ in range(5):
                await ours.take()
            runs = [start(tmp_path, account, api, rows, limit) for rows in ("1-15", "16-30")]
            await until(lambda: len(lives(tmp_path)) == 2, 60)
            await asyncio.sleep(16)
        for run in runs:
            told, _ = await asyncio.to_thread(run.communicate, timeout=200)
            assert run.returncode == 0, told
        limits = account.get("limits")
        assert len(account.bill()) == 30
    assert limits["throttled"] == dict.fromkeys(limits["throttled"], 0)
    assert limits["running"] <= 5
    assert limits["submit_per_second"] <= 5
    assert max(limits["query_per_second"], limits["list_per_second"]) <= 20
    assert active(api, limit) == 0


def lives(folder: Path) -> list[str]:
    """Name the runs that are entered in the journal."""
    from wanbatch.journal import Journal  # noqa: PLC0415 - opened only when there is one

    if not (folder / "ledger" / "journal.db").exists():
        return []
    journal = Journal.open(folder / "ledger" / "journal.db")
    try:
        return ["live"] * journal.live_runs("emulator")
    finally:
        journal.close()
