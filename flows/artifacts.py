"""What Prefect's UI shows of a run when it is over."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.events import emit_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from uuid import UUID

    from wanbatch.progress import Progress
    from wanbatch.session import Session
    from wanbatch.summary import Summary


_PROGRESS_EVERY_S = 15.0

_log = logging.getLogger("wanbatch.flows")


async def show(summary: Summary) -> None:
    """Put the summary, the cost table and the parked attempts beside the run in the UI.

    The ledger has it all already: a server that has gone away is worth a warning, not a failed run.
    """
    try:
        await acreate_markdown_artifact(
            summary_text(summary), key="summary", description=f"Run {summary.run_id}"
        )
        await acreate_table_artifact(
            plain_rows(summary.totals), key="cost", description="By resolution and outcome"
        )
        if summary.parked:
            await acreate_table_artifact(
                parked_rows(summary), key="parked", description="For a person to resolve"
            )
    except Exception as error:  # noqa: BLE001 - whatever a view does, the books are closed
        _log.warning("Prefect could not be shown the summary (%s)", type(error).__name__)


@asynccontextmanager
async def live_progress(session: Session) -> AsyncIterator[None]:
    """Keep a progress bar beside the run in the UI, with what is spent and reserved."""
    bar = _Bar(session.progress)
    watching = asyncio.create_task(bar.keep())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await bar.show()


class _Bar:
    """A run's progress in the UI."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._id: UUID | None = None
        self._shown: tuple[float, str] | None = None

    async def keep(self) -> None:
        """Show it, for ever."""
        while True:
            await self.show()
            await asyncio.sleep(_PROGRESS_EVERY_S)

    async def show(self) -> None:
        """Show how far the run is, if that is news."""
        facts = _percent(self._progress), _money(self._progress)
        try:
            if self._id is None:
                self._id = await acreate_progress_artifact(facts[0], key="progress", description=facts[1])
            elif facts != self._shown:
                await aupdate_progress_artifact(self._id, facts[0], description=facts[1])
            self._shown = facts
        except Exception as error:  # noqa: BLE001 - a view that can't be updated is no reason to stop
            _log.info("Prefect could not be shown the progress (%s)", type(error).__name__)


def _percent(progress: Progress) -> float:
    return round(100 * progress.settled / max(progress.rows, 1), 2)


def _money(progress: Progress) -> str:
    told = f"{progress.settled:,} of {progress.rows:,} rows; spent {progress.spent:f}, reserved {progress.reserved:f}"
    return f"{told} {progress.currency or 'of unknown currency'}; {progress.in_doubt} in doubt"


def tell_prefect(event: str, about: str, facts: dict[str, Any]) -> None:
    """Make a Prefect event of what somebody may want to act on; `wanbatch.run.finished` and its like."""
    emit_event(
        event=f"wanbatch.{event}",
        resource={"prefect.resource.id": f"wanbatch.{about}", "prefect.resource.name": about},
        payload=facts,
    )


def summary_text(summary: Summary) -> str:
    """Say how a run went, in Markdown."""
    counts = (
        ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in summary.counts.items())
        or "nothing to do"
    )
    cost = "unknown" if summary.cost is None else f"{summary.cost.normalize():f} {summary.currency}"
    lines = [
        f"**Rows:** {summary.rows:,}; {counts}",
        f"**Billed:** {summary.billed_s.normalize():f} s, cost {cost}",
        f"**Ledger:** `{summary.ledger}`, videos `{summary.videos}`",
    ]
    if summary.reason:
        lines.append(f"**Stopped early:** {summary.reason}; run it again to go on")
    return "\n\n".join(lines)


def plain_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give rows as plain values, which keep every digit."""
    return [{name: value if value is None else str(value) for name, value in row.items()} for row in rows]


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
