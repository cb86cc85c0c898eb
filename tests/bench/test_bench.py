"""The benchmark measures what it says; the figures themselves are nobody's promise."""

from __future__ import annotations

import io
import json
import time
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.bench.account import served
from tests.bench.figures import Figure, as_json, as_table, middle
from tests.bench.machine import BenchError, run
from tests.bench.peers import LOOP, SDK, run_peer
from tests.bench.setting import Setting
from tests.bench.waiting import never_idle
from tests.conftest import KEY, write_manifest


def test_a_goal_is_an_upper_or_a_lower_bound() -> None:
    """A figure on its bound meets the goal; one beyond it does not; without a goal there is nothing to meet."""
    assert Figure(measure="M4", what="", unit="", ours=1.01, goal=1.01).met
    assert not Figure(measure="M4", what="", unit="", ours=1.011, goal=1.01).met
    assert Figure(measure="M9", what="", unit="", ours=5, goal=5, at_least=True).met
    assert not Figure(measure="M9", what="", unit="", ours=4, goal=5, at_least=True).met
    assert Figure(measure="M9", what="", unit="", ours=4).met is None


def test_figures_are_shown_with_their_ratios() -> None:
    """The table has each peer's figure over ours; the JSON keeps every digit of an amount."""
    speed = Figure(measure="M9", what="reading", unit="rows/s", ours=200, peers={"other": 50.0})
    money = Figure(
        measure="M3", what="off", unit="USD", ours=Decimal("0.10"), goal=0, peers={"other": Decimal(1)}
    )
    console = Console(file=io.StringIO(), width=120)
    console.print(as_table([speed, money]))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "other 50 (×0.25)" in shown  # noqa: RUF001 - times
    assert "missed" in shown
    told = json.loads(json.dumps(as_json([speed, money])))
    assert (told[1]["ours"], told[1]["met"], told[1]["ratios"]) == ("0.10", False, {"other": 10.0})


def test_the_middle_is_of_each_figure_by_itself() -> None:
    """Medians are taken figure by figure, not of whole runs."""
    assert middle([{"a": 1, "b": 9}, {"a": 2, "b": 8}, {"a": 9, "b": 1}]) == {"a": 2, "b": 8}


@given(st.lists(st.floats(60, 300), min_size=1, max_size=60), st.integers(1, 7))
def test_slots_that_never_idle(run_times: list[float], slots: int) -> None:
    """No order beats the work shared out evenly, and none wastes more than its longest task."""
    makespan, even = never_idle(run_times, slots), sum(run_times) / slots
    assert max(even, *run_times) <= makespan * (1 + 1e-9)
    assert makespan <= even + max(run_times) + 1e-6


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size named in the environment takes the place of the usual one, and of no other."""
    monkeypatch.setenv("BENCH_ROWS", "50000")
    assert Setting.from_environment() == Setting(rows=50_000)


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    """A measure ends with the last words of the process that could not do its work."""
    with pytest.raises(BenchError, match="FileNotFoundError"):
        run("manifests", "csv.DictReader", str(tmp_path / "nothing.csv"))


def test_the_account_logs_calls_and_first_tellings() -> None:
    """Every call is in the log; a task's end is told by the first query after it, and not by a later one."""
    with served(speed=1000, min_run_s=60, mean_run_s=60, max_run_s=60) as account:
        body = {
            "model": "wan2.7-videoedit",
            "input": {
                "prompt": "p",
                "media": [{"type": "video", "url": "https://a.example/a.mp4?seconds=5"}],
            },
        }
        headers = {"Authorization": f"Bearer {KEY}", "X-DashScope-Async": "enable"}
        submit = f"{account.url}/services/aigc/video-generation/video-synthesis"
        task_id = httpx.post(submit, json=body, headers=headers).json()["output"]["task_id"]
        first = _query_until_ended(f"{account.url}/tasks/{task_id}", headers)
        told = account.log().told[task_id]
        httpx.get(f"{account.url}/tasks/{task_id}", headers=headers).raise_for_status()
        log = account.log()
    assert log.told == {task_id: told}
    assert len(log.calls["submit"]) == 1
    assert len(log.calls["query"]) == first + 1
    assert told >= log.calls["submit"][0] + 60_000


def _query_until_ended(url: str, headers: dict[str, str]) -> int:
    for asked in range(1, 1000):
        if httpx.get(url, headers=headers).json()["output"]["task_status"] == "SUCCEEDED":
            return asked
        time.sleep(0.02)
    raise AssertionError("it never ended")


@pytest.mark.slow
@pytest.mark.parametrize("peer", [SDK, LOOP])
def test_a_peer_edits_a_manifest(tmp_path: Path, peer: str) -> None:
    """Each peer really edits and fetches every row when nothing goes wrong, and is billed once for each."""
    manifest = write_manifest(tmp_path / "m.csv", 4)
    with served(speed=1000) as account:
        told = run_peer(peer, account, manifest).told
        assert len(account.bill()) == 4
    assert len(set(told)) == 4
    assert all(path.stat().st_size for path in (tmp_path / f"videos-{peer}").iterdir())
    assert len(list((tmp_path / f"videos-{peer}").iterdir())) == 4
