"""What a run would do, before it does anything: its rows, its cost, its time.

`costs` prices rows and adds them up, `times` says how long they take, `making` reads manifest and journal into a
`plan`, `pledge` is the plan as a file, which a run can be held to.
"""

from wanbatch.planning.costs import Estimate, Sums, estimate
from wanbatch.planning.making import make_plan
from wanbatch.planning.plan import Plan, Standing
from wanbatch.planning.pledge import Pledge, as_json, hold_to, write_plan
from wanbatch.planning.times import REFERENCE, RunTimes, makespan_s, run_times

__all__ = [
    "REFERENCE",
    "Estimate",
    "Plan",
    "Pledge",
    "RunTimes",
    "Standing",
    "Sums",
    "as_json",
    "estimate",
    "hold_to",
    "make_plan",
    "makespan_s",
    "run_times",
    "write_plan",
]
