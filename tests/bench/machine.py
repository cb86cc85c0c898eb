"""Processes: each client in one of its own, its CPU time told by the system; and a Prefect server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_ROOT = Path(__file__).parents[2]
_T = TypeVar("_T")
_PATIENCE_S = 600.0
_BATCHES = {
    "TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "TRIGGERS_READ_BATCH_SIZE": "200",
    "EVENT_PERSISTER_READ_BATCH_SIZE": "200",
    "EVENT_PERSISTER_BATCH_SIZE": "500",
}
"""Prefect's server then needs a quarter of the CPU, which the clients need here."""


class BenchError(RuntimeError):
    """A process that was to be measured did not do its work."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A process that has ended."""

    status: int
    """Its exit status, negative for a signal."""
    cpu_s: float
    """User and system, its children included."""
    told: Any
    """What it printed, read as JSON; None when it printed nothing."""


class Running:
    """A process that was started on a module of this package."""

    def __init__(self, module: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.started_at = time.monotonic()
        # What it prints goes to files, not pipes, so that nobody has to read while it runs.
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - open until it has ended
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.{module}", *arguments],
            cwd=_ROOT,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
        )

    def kill(self) -> None:
        """End it with SIGKILL, whatever it is doing."""
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)

    def ended(self, *, expected: Iterable[int] = (0,)) -> Ran:
        """Wait for its end; raises `BenchError` with its last words for a status that was not expected."""
        late = threading.Timer(_PATIENCE_S, self.kill)
        late.start()
        try:
            _, status, usage = os.wait4(self._process.pid, 0)
        finally:
            late.cancel()
        code = self._process.returncode = os.waitstatus_to_exitcode(status)
        if code not in expected:
            raise BenchError(f"{self._process.args!r} ended with {code}\n{_text(self._err)[-4000:]}")
        told = _text(self._out)
        return Ran(code, usage.ru_utime + usage.ru_stime, json.loads(told) if told.strip() else None)


def run(module: str, *arguments: str, environment: dict[str, str] | None = None) -> Ran:
    """Run a module of this package to its end."""
    return Running(module, *arguments, environment=environment).ended()


def side_by_side(jobs: Sequence[Callable[[], _T]]) -> list[_T]:
    """Do jobs at the same time, each in a thread that waits for its processes."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [done.result() for done in [pool.submit(job) for job in jobs]]


@contextmanager
def prefect_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run a real Prefect server; gives the environment that points a flow to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    batches = {f"PREFECT_SERVER_SERVICES_{name}": value for name, value in _BATCHES.items()}
    command = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    server = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | quiet | batches,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    api = f"http://127.0.0.1:{port}/api"
    try:
        _until_healthy(api, server)
        yield {"PREFECT_HOME": quiet["PREFECT_HOME"], "PREFECT_API_URL": api}
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def _until_healthy(api: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        if server.poll() is not None:
            break
        with suppress(httpx.HTTPError):
            if httpx.get(f"{api}/health", timeout=2).is_success:
                return
        time.sleep(0.5)
    raise BenchError("the Prefect server did not come up")


def _text(file: Any) -> str:
    file.seek(0)
    return bytes(file.read()).decode(errors="replace")
