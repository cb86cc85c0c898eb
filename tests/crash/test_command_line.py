"""The whole command, Prefect included, killed in the middle of its work."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import RUN, Account, emulated, environment, write_manifest
from tests.crash import books

_LOST_ANSWERS = (
    {"kind": "accept-then-drop", "nth": 2},
    {"kind": "drop-before-accept", "nth": 4},
    {"kind": "fail", "nth": 3, "code": "InternalError"},
)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.xdist_group("prefect")
def test_the_command_is_killed_and_run_again(tmp_path: Path) -> None:
    """`wanbatch run`, killed with edits at the service, finishes when it is run again, and pays for each row once."""
    manifest = write_manifest(tmp_path / "m.csv", 10)
    with emulated(speed=300.0, min_run_s=60, mean_run_s=300, max_run_s=600) as account:
        account.faults(*_LOST_ANSWERS)
        with _started(tmp_path, account) as first:
            _wait_for_tasks(account, 4, first)
            os.killpg(first.pid, signal.SIGKILL)
        with _started(tmp_path, account) as second:
            assert second.wait(timeout=200) == 0
        found = books.read_books(account, manifest, tmp_path, journal=tmp_path / "ledger" / "journal.db")
        books.check(found)
    assert len(found.ours_billed) == len(found.items)


def _started(folder: Path, account: Account) -> subprocess.Popen[str]:
    """Start the command as the head of a group of its own, so that what it starts dies with it."""
    settings = environment(account, folder / "prefect")
    return subprocess.Popen(RUN, cwd=folder, env=settings, text=True, start_new_session=True)


def _wait_for_tasks(account: Account, count: int, command: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while len(account.get("tasks")["tasks"]) < count:
        assert command.poll() is None, "it ended before it was killed"
        assert time.monotonic() < until, "it never got to work"
        time.sleep(0.1)
