"""An emulated account, a folder, and workers that are started on them again and again."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.conftest import Account, emulated, options
from tests.crash.books import read_attempts
from wanbatch.errors import ExitCode
from wanbatch.journal import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.crash.nursery import Nursery

_START = datetime(2026, 6, 10, 8, tzinfo=UTC)
"""In the middle of a month and of a day: no budget's period ends on the way."""
_POLL_S = 5.0
_PATIENCE_S = 60.0


@dataclass
class Stage:
    """Where one story is played."""

    workers: Nursery
    account: Account
    folder: Path
    manifest: Path
    speed: float
    zero: float
    """When the emulator's clock showed its start."""
    skew_s: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    starts: int = 0

    @property
    def journal(self) -> Path | str:
        """Where the runs keep theirs."""
        return self.options.get("journal") or self.folder / "ledger" / "journal.db"

    def start(self, **more: Any) -> Run:
        """Start a worker; `die_at` and `trace` as `tests.crash.points` has them."""
        self.starts += 1
        job = self.folder / f"job-{self.starts}.json"
        summary = job.with_suffix(".summary.json")
        asked = options(self.folder, self.manifest, poll_interval=_POLL_S, probe=True, **self.options)
        content = {
            "options": asked.model_dump(mode="json"),
            "url": self.account.url,
            "start": (_START + timedelta(seconds=self.skew_s)).isoformat(),
            "zero": self.zero,
            "speed": self.speed,
            "summary": str(summary),
            **more,
        }
        job.write_text(json.dumps(content), encoding="utf-8")
        return Run(self.workers, self.workers.run(job), summary)

    def to_the_end(self, *, starts: int = 20) -> dict[str, Any]:
        """Start workers until one has nothing left to do; gives its summary and exit code."""
        for _ in range(starts):
            run = self.start()
            code = run.ended()
            assert code in {ExitCode.OK, ExitCode.SOME_FAILED, ExitCode.INCOMPLETE, ExitCode.PARKED}, (
                self.log()
            )
            summary: dict[str, Any] = json.loads(run.summary.read_text(encoding="utf-8"))
            if not self._more_to_do(summary):
                return summary | {"exit_code": code}
        raise AssertionError(f"no end after {starts} starts\n{self.log()}")

    def _more_to_do(self, summary: dict[str, Any]) -> bool:
        states = {attempt.state for attempt in read_attempts(self.journal)}
        if states - {State.SETTLED, State.PARKED}:
            return True
        return bool(summary["reason"]) and "budget" not in summary["reason"]

    def log(self) -> str:
        """Give what the workers logged, for a failing test."""
        logs = sorted(self.folder.glob("job-*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(encoding='utf-8')[-3000:]}" for log in logs[-3:])


@dataclass(frozen=True)
class Run:
    """A worker that was started."""

    workers: Nursery
    pid: int
    summary: Path

    def ended(self, *, within_s: float = _PATIENCE_S) -> int:
        """Wait for its exit status; a worker that does not end is a failure."""
        status = self.workers.status(self.pid, within_s=within_s)
        if status is None:
            self.kill()
            raise AssertionError(f"the worker did not end within {within_s} s")
        return status

    def kill(self, *, after_s: float = 0.0, gently: bool = False) -> int:
        """End it from outside, unless it ends before that by itself; gives its exit status."""
        status = self.workers.status(self.pid, within_s=after_s)
        if status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM if gently else signal.SIGKILL)
            status = self.ended()
        return status


@contextmanager
def stage(
    workers: Nursery, folder: Path, manifest: Path, *, speed: float, skew_s: float = 0.0, **emulator: Any
) -> Iterator[Stage]:
    """Serve an account whose time goes `speed` times as fast, and give the stage."""
    zero = time.monotonic()
    with emulated(speed=speed, start=_START, **emulator) as account:
        yield Stage(workers, account, folder, manifest, speed, zero, skew_s)
