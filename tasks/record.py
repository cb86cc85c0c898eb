"""Settle an attempt: its price, and its one row in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.step import as_task
from wanbatch import steps

if TYPE_CHECKING:
    from wanbatch.session import Session, Work
    from wanbatch.steps import Ending


@dataclass(frozen=True, slots=True)
class _Ended:
    work: Work
    ending: Ending

    @property
    def name(self) -> str:
        return self.work.name


async def _record(session: Session, ended: _Ended) -> None:
    await steps.record(session, ended.work, ended.ending)


_record_task = as_task(_record, name="record")


async def record_outcome(session: Session, work: Work, ending: Ending) -> None:
    """Record how an attempt ended."""
    await _record_task(session, _Ended(work, ending))
