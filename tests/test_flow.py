"""The whole line through Prefect: a real server, a real port, a real manifest."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from tests.conftest import RUN, Account, environment, write_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("prefect")]


@contextmanager
def serving_prefect(home: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a real Prefect server of our own: its API address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    code = f"from prefect.server.api.server import create_app; import uvicorn; uvicorn.run(create_app(), port={port})"
    server = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | quiet,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    api = f"http://127.0.0.1:{port}/api"
    try:
        _until_healthy(api, server)
        yield api, server
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the API address of a real Prefect server of our own."""
    with serving_prefect(tmp_path_factory.mktemp("prefect")) as (api, _):
        yield api


def _until_healthy(api: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert server.poll() is None, "the Prefect server ended"
        try:
            if httpx.get(f"{api}/health", timeout=2).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError("the Prefect server did not come up")


def run(folder: Path, account: Account, api: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `wanbatch run` in a folder."""
    settings = environment(account, folder / "prefect") | {"PREFECT_API_URL": api}
    return subprocess.run(
        [*RUN, *more], cwd=folder, env=settings, capture_output=True, text=True, timeout=200, check=False
    )


def runs_of(api: str, kind: str, **where: object) -> list[dict[str, object]]:
    """Ask the Prefect server for its runs."""
    answer = httpx.post(f"{api}/{kind}/filter", json={"limit": 200, **where}, timeout=30)
    found: list[dict[str, object]] = answer.raise_for_status().json()
    return found


def test_a_manifest_goes_through_prefect(tmp_path: Path, account: Account, prefect_server: str) -> None:
    """Every row is edited, booked and shown in Prefect as one run per step, and running again pays nothing."""
    manifest = write_manifest(tmp_path / "m.csv", 6)
    rows = manifest.read_text().splitlines()
    rows[2] = rows[2].replace("make it look", "a forbidden look")
    manifest.write_text("\n".join(rows) + "\n")

    first = run(tmp_path, account, prefect_server)

    assert first.returncode == 3, first.stderr
    assert "Traceback" not in first.stdout + first.stderr
    attempts = pd.read_parquet(tmp_path / "ledger" / "attempts")
    assert attempts.status.value_counts().to_dict() == {"succeeded": 5, "failed": 1}
    assert attempts.groupby("status").cost.sum()["succeeded"] == account.billed()
    assert {Path(path).name for path in attempts.output.dropna()} == {
        path.name for path in (tmp_path / "videos").glob("*.mp4")
    }
    (flow_run,) = runs_of(prefect_server, "flow_runs", flow_runs={"name": {"any_": ["edit m.csv"]}})
    assert flow_run["state_type"] == "COMPLETED"
    names = _recorded_task_names(prefect_server, str(flow_run["id"]))
    assert "submit clip-0001" in names
    assert "poll clip-0002" in names
    artifacts = runs_of(prefect_server, "artifacts", artifacts={"flow_run_id": {"any_": [flow_run["id"]]}})
    shown = {artifact["key"]: artifact for artifact in artifacts}
    assert shown.keys() == {"summary", "cost", "progress"}
    assert (float(str(shown["progress"]["data"])), "6 of 6" in str(shown["progress"])) == (100, True)
    told = _events(prefect_server, "wanbatch.run.finished")
    assert [event["payload"]["succeeded"] for event in told] == [5]

    second = run(tmp_path, account, prefect_server)

    assert second.returncode == 3, second.stderr
    assert len(account.get("tasks")["tasks"]) == 6
    assert sum(attempts.cost, Decimal(0)) == account.billed()


def _events(api: str, name: str) -> list[dict[str, Any]]:
    """Wait until the server shows an event of ours."""
    for _ in range(60):
        asked = {
            "filter": {"event": {"name": [name]}, "occurred": {"since": "2020-01-01T00:00:00Z"}},
            "limit": 50,
        }
        answer = httpx.post(f"{api}/events/filter", json=asked, timeout=30)
        found: list[dict[str, Any]] = answer.raise_for_status().json()["events"]
        if found:
            return found
        time.sleep(0.5)
    return []


def _recorded_task_names(api: str, flow_run: str) -> set[str]:
    """Wait until Prefect's recorder has caught up: its database is a view that lags behind."""
    names: set[str] = set()
    for _ in range(120):
        task_runs = runs_of(api, "task_runs", flow_runs={"id": {"any_": [flow_run]}})
        names = {
            str(task_run["name"])
            for task_run in task_runs
            if task_run["state_type"] in {"COMPLETED", "FAILED"}
        }
        if len(names) >= 6 * 3:
            break
        time.sleep(0.5)
    return names


def test_a_failed_row_is_a_failed_run_in_the_ui(
    tmp_path: Path, account: Account, prefect_server: str
) -> None:
    """The step that met the failure is a failed task run whose message is the failure in one line."""
    write_manifest(tmp_path / "m.csv", 1)
    text = (
        (tmp_path / "m.csv").read_text().replace("make it look", "a forbidden look").replace("clip-", "bad-")
    )
    (tmp_path / "m.csv").write_text(text)
    assert run(tmp_path, account, prefect_server).returncode == 3
    for _ in range(60):
        failed = runs_of(
            prefect_server,
            "task_runs",
            task_runs={"name": {"any_": ["poll bad-0001"]}, "state": {"type": {"any_": ["FAILED"]}}},
        )
        if failed:
            break
        time.sleep(0.5)
    (task_run,) = failed
    state = task_run["state"]
    assert isinstance(state, dict)
    assert str(state["message"]).startswith("DataInspectionFailed")
    assert "\n" not in str(state["message"])
