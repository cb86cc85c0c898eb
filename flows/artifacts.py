"""What Prefect's UI shows of a run when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wanbatch.summary import Summary


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
