"""Who is certainly gone, and who may still be there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from wanbatch import lease

if TYPE_CHECKING:
    from collections.abc import Callable

TELLS_AND_WAITS = "import sys; from wanbatch import lease; print(lease.me(), flush=True); sys.stdin.read()"


def another(**changed: Any) -> str:
    """Describe a process like this one, but for what is changed."""
    return json.dumps(json.loads(lease.me()) | changed)


def test_this_process_is_here() -> None:
    """A process does not think that it is gone itself, and describes itself the same every time."""
    assert lease.me() == lease.me()
    assert not lease.gone(lease.me())


def test_a_process_is_there_until_it_is_killed() -> None:
    """A child is there while it lives, and gone as soon as it is dead, buried or not."""
    child = subprocess.Popen(
        [sys.executable, "-c", TELLS_AND_WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    owner = child.stdout.readline()
    assert owner != lease.me()
    assert not lease.gone(owner)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert lease.gone(owner)
    child.communicate()
    assert lease.gone(owner)


def test_a_number_that_is_used_again_is_another_process() -> None:
    """A process of the same number that started at another time is not the one that held the claim."""
    assert lease.gone(another(started="1"))


def test_without_a_start_time_the_number_decides() -> None:
    """Where the system does not tell when a process started, a living number is left alone."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert not lease.gone(another(started=None))
    assert lease.gone(another(started=None, pid=child.pid))


UNSEEN: dict[str, Callable[[], str]] = {
    "elsewhere": lambda: another(place="elsewhere"),
    "elsewhere, at another time": lambda: another(place="elsewhere", started="1"),
    "nothing": lambda: "",
    "an empty object": lambda: "{}",
    "a list": lambda: "[]",
    "null": lambda: "null",
    "no process": lambda: '{"place": 1}',
    "no number": lambda: another(pid="x"),
}


@pytest.mark.parametrize("who", UNSEEN)
def test_who_can_not_be_seen_is_not_certainly_gone(who: str) -> None:
    """A process of another machine, and one that can't be understood, keeps its lease."""
    assert not lease.gone(UNSEEN[who]())


def test_a_lease_outlives_several_heartbeats() -> None:
    """One late heartbeat does not cost a run its claims."""
    assert lease.LEASE_S >= 3 * lease.HEARTBEAT_S
