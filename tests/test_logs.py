"""Logs: one JSON object a record with what it is about, scrubbed whoever logs it; levels and formats as asked."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import WANBATCH, Account, environment, options, write_manifest
from wanbatch import walk
from wanbatch.logs import JsonLines, guard, show
from wanbatch.opening import open_session
from wanbatch.session import Session
from wanbatch.steps import Submission

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def shown() -> Iterator[io.StringIO]:
    """Show logs as JSON in a text, from `debug` on, and put everything back afterwards."""
    maker, root, ours = logging.getLogRecordFactory(), logging.getLogger(), logging.getLogger("wanbatch")
    handlers, level, propagate = list(root.handlers), ours.level, ours.propagate
    ours.propagate = True
    handler = logging.StreamHandler(text := io.StringIO())
    handler.setFormatter(JsonLines())
    show(handler, "debug")
    yield text
    logging.captureWarnings(capture=False)
    logging.setLogRecordFactory(maker)
    root.handlers = handlers
    ours.setLevel(level)
    ours.propagate = propagate


def told(text: io.StringIO) -> list[dict[str, Any]]:
    """Give what was logged."""
    return [json.loads(line) for line in text.getvalue().splitlines()]


def test_a_record_is_a_line(shown: io.StringIO) -> None:
    """Each record is one line with its time in UTC, level, logger and message, also when it has a traceback."""
    try:
        int("x\ny")
    except ValueError:
        logging.getLogger("wanbatch.some").exception("two\nlines, 镜头")
    (line,) = told(shown)
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert (line["level"], line["logger"], line["message"]) == ("error", "wanbatch.some", "two lines, 镜头")
    assert line["exception"].splitlines()[0] == "Traceback (most recent call last):"
    assert shown.getvalue().isascii()


@pytest.mark.parametrize("name", ["wanbatch.client", "httpx", "prefect.flow_runs", "py.warnings"])
def test_every_library_is_scrubbed(shown: io.StringIO, name: str) -> None:
    """Whoever logs it, no secret is in message, arguments, traceback or stack; also for handlers added later."""
    later = logging.StreamHandler(text := io.StringIO())
    logger = logging.getLogger(name)
    logger.addHandler(later)
    try:
        int("https://b.example/a?Signature=topsecret01")
    except ValueError:
        logger.exception("GET %s", "https://b.example/a?X-Amz-Signature=topsecret02", stack_info=True)
    finally:
        logger.removeHandler(later)
    for content in (text.getvalue(), shown.getvalue()):
        assert "GET https://b.example/a" in content
        assert "topsecret" not in content
        assert "ValueError: invalid literal for int() with base 10: 'https://b.example/a'" in content


@pytest.mark.usefixtures("shown")
def test_guarding_twice_is_guarding_once() -> None:
    """A process that guards its records again makes them no slower."""
    maker = logging.getLogRecordFactory()
    guard()
    assert logging.getLogRecordFactory() is maker


@pytest.mark.usefixtures("shown")
def test_the_level_of_a_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no command line set a level, guarding takes the environment's; one that was set stays."""
    monkeypatch.setenv("WANBATCH_LOG_LEVEL", "info")
    ours = logging.getLogger("wanbatch")
    guard()
    assert ours.level == logging.DEBUG
    ours.setLevel(logging.NOTSET)
    guard()
    assert ours.level == logging.INFO


async def test_records_say_what_they_are_about(tmp_path: Path, account: Account, shown: io.StringIO) -> None:
    """A record on an item's way has run, service, item, key, attempt and, once there is one, the task's id."""
    account.faults({"kind": "result-break", "nth": 1})
    async with open_session(options(tmp_path, write_manifest(tmp_path / "m.csv", 2))) as session:
        await walk.edit_videos(session, walk.Steps())
    ended = [line for line in told(shown) if line["message"].endswith(": succeeded")]
    assert {line["item"] for line in ended} == {"clip-0001", "clip-0002"}
    tasks = {task["task_id"] for task in account.get("tasks")["tasks"]}
    assert {line["task_id"] for line in ended} == tasks
    assert {(line["run_id"], line["service"], line["attempt"]) for line in ended} == {
        (session.run_id, "emulator", 1)
    }
    assert {len(line["key"]) for line in ended} == {32}
    requests = [line for line in told(shown) if line["message"] == "submit: ok"]
    assert {line["item"] for line in requests} == {"clip-0001", "clip-0002"}
    assert all("task_id" not in line for line in requests)


@pytest.mark.usefixtures("account")
async def test_a_fault_of_ours_has_its_traceback(tmp_path: Path, shown: io.StringIO) -> None:
    """A bug in a step is logged with the item it struck and a traceback without secrets."""

    async def wait(_session: Session, submission: Submission) -> Any:
        raise KeyError(f"{submission.name} Bearer topsecret01")

    async with open_session(options(tmp_path, write_manifest(tmp_path / "m.csv", 1))) as session:
        await walk.edit_videos(session, walk.Steps(wait=wait))
    (line,) = [line for line in told(shown) if "exception" in line]
    assert (line["item"], line["level"]) == ("clip-0001", "error")
    assert "KeyError: 'clip-0001 Bearer ***" in line["exception"]


def command(folder: Path, *more: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `wanbatch run` without a key, so that it ends before anything is sent."""
    usual = os.environ | {"DASHSCOPE_API_KEY": ""} | settings
    return subprocess.run(
        [str(WANBATCH), "run", "m.csv", "--service", "emulator", *more],
        cwd=folder,
        env=usual,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("options_", "settings"),
    [(("--log-format", "json"), {}), ((), {"WANBATCH_LOG_FORMAT": "json"})],
    ids=["option", "environment"],
)
def test_json_means_json_alone(tmp_path: Path, options_: tuple[str, ...], settings: dict[str, str]) -> None:
    """Asked for JSON by option or environment, even the last words of a run that can't begin are JSON."""
    write_manifest(tmp_path / "m.csv", 1)
    ended = command(tmp_path, *options_, **settings)
    assert ended.returncode == 2
    (line,) = [json.loads(line) for line in ended.stderr.splitlines()]
    assert line["level"] == "error"
    assert "no API key" in line["message"]


@pytest.mark.parametrize(
    ("more", "words"),
    [(("--log-format", "xml"), "give text or json"), (("--log-level", "loud"), "give one of debug")],
    ids=["format", "level"],
)
def test_what_is_no_format_or_level(tmp_path: Path, more: tuple[str, str], words: str) -> None:
    """A format or a level that there is not is a wrong option, said in one line."""
    ended = command(tmp_path, *more)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.xdist_group("prefect")
def test_a_run_in_json(tmp_path: Path, account: Account) -> None:
    """Standard error of a whole run is JSON lines alone, with the outcome of each item; the summary stays apart."""
    write_manifest(tmp_path / "m.csv", 2)
    asked = "run m.csv --service emulator --no-probe --poll-interval 0.2 --log-format json --log-level info --json"
    ended = subprocess.run(
        [str(WANBATCH), *asked.split()],
        cwd=tmp_path,
        env=environment(account, tmp_path / "prefect"),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert {line["item"] for line in lines if line["message"].endswith("succeeded")} == {
        "clip-0001",
        "clip-0002",
    }
    assert {line["run_id"] for line in lines} == {json.loads(ended.stdout)["run_id"]}
