"""Exact sums over attempts, in Arrow."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

SUMMED = ("billed_s", "cost")
"""The columns that `add_up_table` needs besides those it groups by."""


def add_up_table(table: pa.Table, by: Sequence[str]) -> list[dict[str, Any]]:
    """Sum a table of attempts by some of its columns, groups in order, unknown ones (None) first.

    Gives a dict a group: the columns of `by`, then `attempts`, `billed_s` and `cost` (Decimal; what is known
    of them, 0 when nothing is), and `unknown_cost`, the number of attempts that `cost` leaves out.
    """
    # Arrow sums decimal128(18, 6) in 38 digits: no ledger overflows them.
    wanted = [([], "count_all"), ("billed_s", "sum"), ("cost", "sum"), ("cost", "count")]
    sums = table.unify_dictionaries().group_by(list(by)).aggregate(wanted)
    groups = [
        {name: row[name] for name in by}
        | {
            "attempts": row["count_all"],
            "billed_s": row["billed_s_sum"] or Decimal(0),
            "cost": row["cost_sum"] or Decimal(0),
            "unknown_cost": row["count_all"] - row["cost_count"],
        }
        for row in sums.to_pylist()
    ]
    return sorted(groups, key=lambda group: [(group[name] is not None, group[name]) for name in by])
