"""How long edits take: what the ledger remembers of them, and what that means for many."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from wanbatch.ledger import Ledger
from wanbatch.models import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

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


_REMEMBERED = 2_000
"""So many of the last edits say how long the next ones will run."""


def run_times(seconds: Sequence[float]) -> RunTimes:
    """Sum up how long edits took; without any, give the service's own words."""
    if not seconds:
        return REFERENCE
    if len(seconds) == 1:
        return RunTimes(seconds[0], seconds[0], seconds[0], 1)
    tenths = statistics.quantiles(seconds, n=10, method="inclusive")
    return RunTimes(tenths[0], statistics.fmean(seconds), tenths[-1], len(seconds))


def remembered(where: str, service: str) -> RunTimes:
    """Say how long a service's edits took so far; raises `LedgerError` when the ledger is damaged."""
    ledger = Ledger(where)
    if ledger.is_empty():
        return REFERENCE
    return run_times(run_seconds(ledger, service))


def run_seconds(ledger: Ledger, service: str) -> Sequence[float]:
    """Give how long a service's last finished edits ran, in seconds; raises `LedgerError`."""
    finished = (pc.field("service") == service) & (pc.field("status") == str(Outcome.SUCCEEDED))
    table = ledger.read_latest(["run_s"], where=finished & pc.field("run_s").is_valid(), rows=_REMEMBERED)
    seconds: list[float] = table["run_s"].to_pylist()
    return seconds[-_REMEMBERED:]


def makespan_s(edits: int, run_s: float, limits: Limits) -> float:
    """Say how long edits of `run_s` seconds each take with every slot full, in seconds."""
    return max(math.ceil(edits / limits.slots) * run_s, edits / limits.submit_rate)
