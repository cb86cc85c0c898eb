"""Who holds a claim, and whether that process is still there.

A claim is a lease that runs out. A process that died on this machine is noticed at once, so that starting
again after a crash does not wait for its lease.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

LEASE_S = 60.0
"""How long a claim outlives the last sign of life of its holder."""
HEARTBEAT_S = 15.0


def me() -> str:
    """Describe this process so that no other, here or elsewhere, is taken for it."""
    return json.dumps({"place": _place(), "pid": os.getpid(), "started": _started(os.getpid())})


def gone(owner: str) -> bool:
    """Say whether that process has certainly ended; a process of another machine never certainly has."""
    try:
        told = json.loads(owner)
        place, pid, started = told["place"], int(told["pid"]), told["started"]
    except (ValueError, KeyError, TypeError):
        return False
    if place != _place():
        return False
    if started is not None:
        return bool(_started(pid) != started)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _place() -> str:
    """Name the machine, its boot and the process namespace: another container has other pids."""
    return "/".join([platform.node(), _read("/proc/sys/kernel/random/boot_id"), _link("/proc/self/ns/pid")])


def _started(pid: int) -> str | None:
    """Read when a process started, in ticks since boot; None when there is no such process or no /proc."""
    stat = _read(f"/proc/{pid}/stat")
    if not stat:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else fields[18]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
