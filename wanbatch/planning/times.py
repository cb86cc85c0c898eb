"""How long edits take: what the ledger remembers of them, and what that means for many."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wanbatch.journal import Outcome
from wanbatch.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from wanbatch.settings import Limits


@dataclass(frozen=True, slots=True)
class RunTimes:
    """How long the service works on an edit, in seconds."""

    quick: float
    """Of the quickest tenth."""
    mean: float
    slow: float
    """Of the slowest tenth."""
    samples: int
    """How many finished edits say so."""


REFERENCE = RunTimes(quick=60.0, mean=188.0, slow=300.0, samples=0)
"""A first guess: the service speaks of one to five minutes, the mean is a usual one.

https://www.alibabacloud.com/help/en/model-studio/wan-video-editing-api-reference
"""


def run_times(seconds: Sequence[float]) -> RunTimes:
    """Sum up how long edits took; without any, give the service's own words."""
    if not seconds:
        return REFERENCE
    if len(seconds) == 1:
        return RunTimes(seconds[0], seconds[0], seconds[0], 1)
    tenths = statistics.quantiles(seconds, n=10, method="inclusive")
    return RunTimes(tenths[0], statistics.fmean(seconds), tenths[-1], len(seconds))


def remembered(folder: Path, service: str) -> RunTimes:
    """Say how long a service's edits took so far; raises `LedgerError` when the ledger is damaged."""
    ledger = Ledger(folder)
    if not any(ledger.attempts.glob("**/*.parquet")):
        return REFERENCE
    return run_times(list(run_seconds(ledger, service)))


def run_seconds(ledger: Ledger, service: str) -> Iterator[float]:
    """Give how long each of a service's finished edits ran, in seconds; raises `LedgerError`."""
    wanted = (service, str(Outcome.SUCCEEDED))
    for batch in ledger.read_attempts(["service", "status", "run_s"]).to_batches():
        columns = (column.to_pylist() for column in batch.columns)
        for name, status, run_s in zip(*columns, strict=True):
            if (name, status) == wanted and run_s is not None:
                yield run_s


def makespan_s(edits: int, run_s: float, limits: Limits) -> float:
    """Say how long edits of `run_s` seconds each take with every slot full, in seconds."""
    return max(math.ceil(edits / limits.slots) * run_s, edits / limits.submit_rate)
