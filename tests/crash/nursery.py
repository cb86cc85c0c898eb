"""Starts workers quickly: a process that has imported everything and forks one child a job.

Lines in, lines out: `run JOB LOG` gives a pid; `poll PID` gives `-` while the child lives, then its exit status,
negative for a signal. A forked child is killed like any other process, and starts in milliseconds.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_POLL_S = 0.005
_LATE = ("anyio._backends._asyncio", "httpcore", "pandas", "sqlalchemy.dialects.sqlite")
"""What a run imports only when it comes to it."""


class Nursery:
    """The test's end of the pipe."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, job: Path) -> int:
        """Start a worker on a job; gives its pid. What it logs goes into a file beside the job."""
        return int(self._ask(f"run {job} {job.with_suffix('.log')}"))

    def status(self, pid: int, *, within_s: float) -> int | None:
        """Wait for a worker's exit status, negative for a signal; None when it still lives after so long."""
        until = time.monotonic() + within_s
        while (answer := self._ask(f"poll {pid}")) == "-":
            if time.monotonic() > until:
                return None
            time.sleep(_POLL_S)
        return int(answer)

    def _ask(self, line: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Keep a nursery while the block runs."""
    command = [sys.executable, "-m", "tests.crash.nursery"]
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # what has threads does not fork well
    with subprocess.Popen(
        command,
        cwd=_ROOT,
        env=os.environ | threads,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Nursery(process)
        assert process.stdin
        process.stdin.close()


def _serve() -> None:
    from tests.crash.worker import main  # noqa: PLC0415 - only the nursery's own process needs it

    for late in _LATE:
        importlib.import_module(late)
    for line in sys.stdin:
        what, argument, *rest = line.split()
        if what == "run":
            pid = os.fork()
            if pid == 0:
                _become_worker(main, Path(argument), Path(rest[0]))
            answer = str(pid)
        else:
            done, status = os.waitpid(int(argument), os.WNOHANG)
            answer = str(os.waitstatus_to_exitcode(status)) if done else "-"
        print(answer, flush=True)  # noqa: T201 - the pipe


def _become_worker(main: object, job: Path, log: Path) -> None:
    """Leave the nursery's pipe alone, do the job, and end without its exit handlers."""
    assert callable(main)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((null, 0), (handle, 1), (handle, 2)):
        os.dup2(old, new)
    status = 1
    try:
        status = main(job)
    except BaseException:  # noqa: BLE001 - whatever it was, the child must not go on as the nursery
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
