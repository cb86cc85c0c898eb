"""When to ask about an edit where there is no list to look at: fitted to how long edits took so far.

The gap between two questions goes with one over the square root of the chance that it ends right now. For a given
number of questions, no other gaps make the mean time between an end and its notice shorter.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

QUESTIONS = 12
"""How often an edit is asked about, on average, from its start to its end."""
_PARTS = 20
_FEW = 20
"""Fewer run times than these say less than the service's own words."""
_KEPT = 2_000
_REFIT_EVERY = 25
_GAP_S = (1.0, 60.0)
_REFERENCE_S = tuple(float(seconds) for seconds in range(60, 301, 4))
"""One to five minutes: https://www.alibabacloud.com/help/en/model-studio/wan-video-editing-api-reference"""


class PollSchedule:
    """Says how long to wait until the next question; learns from every edit that ends."""

    def __init__(self, run_s: Iterable[float] = ()) -> None:
        self._run_s = deque(run_s, maxlen=_KEPT)
        self._learnt = 0
        self._fit()

    def learn(self, run_s: float) -> None:
        """Take note of how long an edit ran, in seconds."""
        self._run_s.append(run_s)
        self._learnt += 1
        if self._learnt % _REFIT_EVERY == 0:
            self._fit()

    @property
    def rate_per_edit(self) -> float:
        """Questions a second that an edit in flight costs."""
        return QUESTIONS / self.mean_s

    def gap_s(self, age_s: float) -> float:
        """Say how many seconds after an edit has run for `age_s` to ask about it next."""
        part = bisect_right(self._edges, age_s) - 1
        if part < 0:  # none was ever that quick: wait until the first may be done, but not for too long
            return min(max(self._edges[0] - age_s, _GAP_S[0]), _GAP_S[1])
        return self._gaps[min(part, len(self._gaps) - 1)]

    def waiting_gap_s(self) -> float:
        """Say after how many seconds to ask about an edit again that has not started."""
        return min(max(self.mean_s / QUESTIONS, _GAP_S[0]), _GAP_S[1])

    def _fit(self) -> None:
        times = list(self._run_s) if len(self._run_s) >= _FEW else list(_REFERENCE_S)
        self.mean_s = max(statistics.fmean(times), 1.0)
        cuts = statistics.quantiles(times, n=_PARTS, method="inclusive")
        self._edges: list[float] = [min(times), *cuts, max(times)]
        widths = [max(end - start, 0.1) for start, end in pairwise(self._edges)]
        left = [(_PARTS - part) / _PARTS for part in range(_PARTS)]
        chances = [1 / (_PARTS * alive * width) for alive, width in zip(left, widths, strict=True)]
        asked = sum(
            alive * width * chance**0.5 for alive, width, chance in zip(left, widths, chances, strict=True)
        )
        scale = asked / QUESTIONS
        self._gaps: list[float] = [min(max(scale / chance**0.5, _GAP_S[0]), _GAP_S[1]) for chance in chances]
