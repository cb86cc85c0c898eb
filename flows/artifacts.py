"""What Prefect's UI shows of a run when it is over."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

if TYPE_CHECKING:
    from wanbatch.summary import Summary


_log = logging.getLogger("wanbatch.flows")


async def show(summary: Summary) -> None:
    """Put the summary, the cost table and the parked attempts beside the run in the UI.

    The ledger has it all already: a server that has gone away is worth a warning, not a failed run.
    """
    try:
        await acreate_markdown_artifact(
            summary_text(summary), key="summary", description=f"Run {summary.run_id}"
        )
        await acreate_table_artifact(cost_rows(summary), key="cost", description="By resolution and outcome")
        if summary.parked:
            await acreate_table_artifact(
                parked_rows(summary), key="parked", description="For a person to resolve"
            )
    except Exception as error:  # noqa: BLE001 - whatever a view does, the books are closed
        _log.warning("Prefect could not be shown the summary (%s)", type(error).__name__)


def summary_text(summary: Summary) -> str:
    """Say how a run went, in Markdown."""
    counts = (
        ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in summary.counts.items())
        or "nothing to do"
    )
    cost = "unknown" if summary.cost is None else f"{summary.cost.normalize():f} {summary.currency}"
    lines = [
        f"**{summary.rows} rows:** {counts}",
        f"**Billed:** {summary.billed_s.normalize():f} s, cost {cost}",
        f"**Ledger:** `{summary.ledger}`, videos `{summary.videos}`",
    ]
    if summary.reason:
        lines.append(f"**Stopped early:** {summary.reason}; run it again to go on")
    return "\n\n".join(lines)


def cost_rows(summary: Summary) -> list[dict[str, Any]]:
    """Give the totals as a table of plain values."""
    return [
        {name: value if value is None else str(value) for name, value in row.items()}
        for row in summary.totals
    ]


def parked_rows(summary: Summary) -> list[dict[str, Any]]:
    """Give the parked attempts as a table of plain values."""
    return [
        {
            "item": attempt.item.name,
            "attempt": attempt.number,
            "sent": str(attempt.sent_at),
            "reserved": str(attempt.reserved),
            "why": attempt.message or "",
        }
        for attempt in summary.parked
    ]
