"""One manifest as many runs: who edits which row, on which account, and what is deployed for it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from tests.cluster.settings import server_settings
from tests.conftest import KEY, WANBATCH, emulated, options, write_manifest
from tests.conftest import Account as Emulated
from tests.test_flow import runs_of, serving_prefect
from wanbatch import walk
from wanbatch.errors import ClaimLost, UsageError
from wanbatch.journal import Journal
from wanbatch.models import EditRequest, Item
from wanbatch.opening import open_session
from wanbatch.options import RunOptions
from wanbatch.session import is_ours
from wanbatch.settings import find_service
from wanbatch.sharding import Account, count_rows, shards_of, standings

DEPLOYMENTS = Path(__file__).parent.parent / "deployments"
NAMES = ("singapore", "studio-b@singapore", "beijing")


@given(
    rows=st.integers(1, 60),
    shards=st.integers(1, 9),
    accounts=st.integers(1, 3),
    wanted=st.lists(st.sampled_from([None, *NAMES]), min_size=60, max_size=60),
)
def test_every_row_is_one_shard_s(rows: int, shards: int, accounts: int, wanted: list[str | None]) -> None:
    """However rows, shards and accounts fall: each row is taken by one run, and by the service that it names."""
    names = NAMES[:accounts]
    some = [Account(service=name, shared_slots="slots") for name in names]
    runs = shards_of(RunOptions(manifest="m.csv"), some, rows=rows, shards=shards)
    for row in range(1, rows + 1):
        item = Item(
            key=f"{row * 2**61 % (2**128 - 159):032x}",
            row=row,
            request=EditRequest(video="https://media.example.com/v.mp4"),
            service=wanted[row - 1] if wanted[row - 1] in names else None,
        )
        takers = [run for run in runs if takes(run, item)]
        assert len(takers) == 1
        assert item.service in {None, takers[0].service}


def takes(run: RunOptions, item: Item) -> bool:
    """Say whether a run edits an item."""
    first, last = run.row_range
    within = first <= item.row <= (last or item.row)
    return within and is_ours(item.key, item.service, run, find_service(run.service))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"budget": "50"}, "write 50/month"),
        ({"shards": 2}, "shared_slots"),
        ({"accounts": ("singapore", "singapore")}, "studio-b@singapore"),
        ({"limit": 5}, "for one run"),
    ],
    ids=["budget-of-one-run", "nothing-shared", "two-of-one-name", "limit"],
)
def test_what_would_not_hold_over_several_runs_is_refused(wrong: dict[str, Any], words: str) -> None:
    """A budget, limit or account that means another thing with many runs is an error that says what to write."""
    shards = wrong.pop("shards", 1)
    accounts = [Account(service=name) for name in wrong.pop("accounts", ())]
    with pytest.raises(UsageError, match=re.escape(words)):
        shards_of(RunOptions(manifest="m.csv", **wrong), accounts, rows=10, shards=shards)


def test_a_row_for_an_account_that_takes_no_part_is_refused(tmp_path: Path) -> None:
    """A row that nobody would edit is found before anything is submitted."""
    manifest = write_manifest(tmp_path / "m.csv", 3, service="beijing")
    with pytest.raises(UsageError, match="names the service beijing"):
        count_rows(options(tmp_path, manifest), [Account(service="singapore")])


def test_an_item_can_be_claimed_at_one_service_alone(tmp_path: Path) -> None:
    """Two accounts that want the same attempt at the same moment: one has it, the other is told so."""
    journal = Journal.open(tmp_path / "journal.db")
    item = Item(key="0" * 32, row=1, request=EditRequest(video="https://media.example.com/v.mp4"))
    for run in ("one", "two"):
        journal.begin_run(run, service=run, manifest="m.csv")
    journal.claim("one", item, service="one", manifest="m.csv", number=1)
    with pytest.raises(ClaimLost):
        journal.claim("two", item, service="two", manifest="m.csv", number=1)
    assert journal.at_work() == {("one", "m.csv"), ("two", "m.csv")}
    journal.close()


@contextmanager
def two_accounts() -> Iterator[tuple[Emulated, Emulated]]:
    """Serve two accounts, each with a key of its own."""
    with emulated(key="sk-one") as one, emulated(key="sk-two") as two:
        yield one, two


async def edit_all(runs: list[RunOptions]) -> None:
    """Run shards side by side."""

    async def edit(run: RunOptions) -> None:
        async with open_session(run) as session:
            await walk.edit_videos(session, walk.Steps())
            await session.flush()

    await asyncio.gather(*map(edit, runs))


async def test_two_accounts_share_a_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is at one account, the one that it names if it does; other shards later change nothing of that."""
    monkeypatch.setenv("KEY_ONE", "sk-one")
    monkeypatch.setenv("KEY_TWO", "sk-two")
    with two_accounts() as (one, two):
        manifest = write_manifest(tmp_path / "m.csv", 24, service="")
        lines = manifest.read_text().splitlines()
        lines[1:7] = [line + two.url for line in lines[1:7]]
        manifest.write_text("\n".join(lines) + "\n")
        usual = options(tmp_path, manifest, rate_card="emulator")
        accounts = [
            Account(service=served.url, key_variable=variable, shared_slots="not used here")
            for served, variable in ((one, "KEY_ONE"), (two, "KEY_TWO"))
        ]
        assert count_rows(usual, accounts) == 24
        runs = shards_of(usual, accounts, rows=24, shards=2)
        await edit_all(runs)
        bills = [served.bill() for served in (one, two)]
        assert len(bills[0]) + len(bills[1]) == 24
        assert min(len(bills[0]), len(bills[1]) - 6) > 0

        journal = Journal.open(usual.journal_url)
        assert standings(usual, journal) == Counter(succeeded=24)
        assert journal.rows_settled(str(manifest)) == 24
        tally = journal.tally(str(manifest))
        assert [(row["service"], row["attempts"]) for row in tally] == sorted(
            (served.origin, len(bill)) for served, bill in zip((one, two), bills, strict=True)
        )
        assert sum((row["cost"] for row in tally), Decimal(0)) == one.billed() + two.billed()
        journal.close()

        await edit_all(shards_of(usual, accounts[::-1], rows=24, shards=3))
        assert [served.bill() for served in (one, two)] == bills


def commands() -> list[str]:
    """Read the five commands of the deployments' README."""
    text = (DEPLOYMENTS / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```console[^\n]*\n(.*?)```", text, re.DOTALL)
    assert block is not None
    return [line.removeprefix("$ ") for line in block[1].splitlines()]


@pytest.mark.long
@pytest.mark.timeout(500)
@pytest.mark.xdist_group("deployments")
def test_five_commands_lead_to_a_run(tmp_path: Path) -> None:
    """What the README says leads from nothing to an edited manifest, with a key that Prefect keeps and nobody shows."""
    pool, limit, deploy, worker, start = commands()
    manifest = write_manifest(tmp_path / "m.csv", 3)
    mine = options(
        tmp_path, manifest, key_block="wanbatch-key", shared_slots="account", poll_interval=1.0
    ).model_dump(mode="json", exclude_defaults=True)
    with serving_prefect(tmp_path / "server") as (api, _), emulated(speed=100.0) as account:
        with temporary_settings({PREFECT_API_URL: api}):
            Secret(value=SecretStr(KEY)).save("wanbatch-key")
        environment = {name: value for name, value in os.environ.items() if name != "DASHSCOPE_API_KEY"} | {
            "PATH": f"{WANBATCH.parent}:{os.environ['PATH']}",
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "PREFECT_API_URL": api,
            "DASHSCOPE_HTTP_BASE_URL": account.url,
        }
        for command in (pool, limit, deploy):
            run(command, environment)
        working = subprocess.Popen(
            shlex.split(worker), env=environment, cwd=DEPLOYMENTS.parent, stdout=subprocess.DEVNULL
        )
        try:
            words = shlex.split(start)
            words[-1] = f"options={json.dumps(mine)}"
            run(shlex.join([*words, "--watch"]), environment)
        finally:
            working.terminate()
            working.wait(60)
        assert len(account.bill()) == 3
        (flow_run,) = runs_of(api, "flow_runs", flow_runs={"name": {"any_": [f"edit {manifest}"]}})
        assert KEY not in json.dumps(runs_of(api, "flow_runs") + runs_of(api, "logs"))
        assert flow_run["state_type"] == "COMPLETED"
        assert waiting(api) == {"nightly", "daily"}, (
            "Prefect's scheduler makes no runs; is SQLAlchemy older than 2.1?"
        )


def waiting(api: str) -> set[object]:
    """Name the deployments that have a run scheduled, as soon as all have that are going to."""
    names = {each["id"]: each["name"] for each in runs_of(api, "deployments")}
    found: set[object] = set()
    for _ in range(60):
        some = runs_of(api, "flow_runs", flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}})
        found = {names[run["deployment_id"]] for run in some}
        if len(found) > 1:
            break
        time.sleep(0.5)
    return found


def run(command: str, environment: dict[str, str]) -> None:
    """Run a command from the root of the checkout."""
    ended = subprocess.run(
        shlex.split(command),
        env=environment,
        cwd=DEPLOYMENTS.parent,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def composed() -> dict[str, Any]:
    """Read the compose file."""
    told: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text(encoding="utf-8"))
    return told


@pytest.mark.parametrize("name", sorted(composed()["services"]))
def test_every_service_is_pinned_watched_and_keeps_no_secret(name: str) -> None:
    """Each image has a version, each server a health check, and what is secret comes from outside the file."""
    service = composed()["services"][name]
    assert re.search(r":v?\d+\.\d", service["image"])
    assert "healthcheck" in service or name.startswith("worker")
    for variable, value in service.get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|KEY", variable):
            assert str(value).startswith("${"), variable
        assert not re.search(r"://[^/]*:[^/]+@", re.sub(r"\$\{[^}]*\}", "", str(value))), variable


def test_the_services_know_each_other() -> None:
    """What a service waits for, mounts and configures is in the file; both workers are the same."""
    told = composed()
    assert {"postgres", "prefect", "worker-1", "worker-2", "store", "emulator"} == told["services"].keys()
    for service in told["services"].values():
        assert set(service.get("depends_on", ())) <= told["services"].keys()
        assert {volume.split(":")[0] for volume in service.get("volumes", ())} <= told["volumes"].keys()
        assert {each["source"] for each in service.get("configs", ())} <= told["configs"].keys()
        if "build" in service:
            assert (DEPLOYMENTS / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert told["services"]["worker-1"] == told["services"]["worker-2"]


def test_prefect_knows_every_setting_of_its_server(tmp_path: Path) -> None:
    """A misspelt setting would be no setting: Prefect itself names all of ours as set."""
    ended = subprocess.run(
        [str(WANBATCH.with_name("prefect")), "config", "view"],
        env=os.environ | server_settings() | {"PREFECT_HOME": str(tmp_path), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert len(server_settings()) > 5
    for name in server_settings():
        assert f"{name}=" in ended.stdout
