"""From one state of an attempt to the next, as its holder alone may."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import IntegrityError

from wanbatch.errors import ClaimLost
from wanbatch.journal import schema
from wanbatch.journal.database import Database
from wanbatch.journal.records import Attempt, State
from wanbatch.models import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wanbatch.models import TaskReport

_NOW = object()
"""Stands for the moment of the transaction."""


class Transitions(Database):
    """Changes of state."""

    def sent(
        self, attempt: Attempt, *, service_time: datetime | None, service_sent_at: datetime | None = None
    ) -> Attempt:
        """Say that the POST is about to leave; by the service's clock, after the one and at about the other."""
        return self._move(
            attempt,
            {State.INTENDED},
            State.SENT,
            sent_at=_NOW,
            service_time=service_time,
            service_sent_at=service_sent_at,
        )

    def unsent(self, attempt: Attempt) -> Attempt:
        """Say that the POST never left, or was refused in a way that asks for patience."""
        return self._move(attempt, {State.SENT}, State.INTENDED, sent_at=None)

    def accepted(
        self, attempt: Attempt, *, task_id: str, request_id: str | None, submitted_at: datetime | None = None
    ) -> Attempt:
        """Keep the task_id that the service answered with."""
        return self._move(
            attempt,
            {State.SENT},
            State.ACCEPTED,
            task_id=task_id,
            submit_request_id=request_id,
            submitted_at=submitted_at or _NOW,
        )

    def in_doubt(self, attempt: Attempt, *, why: str, request_id: str | None) -> Attempt:
        """Say that the POST got no trustworthy answer."""
        return self._move(
            attempt,
            {State.SENT},
            State.IN_DOUBT,
            note=why,
            message=why,
            doubted_at=_NOW,
            submit_request_id=request_id,
        )

    def adopted(
        self, attempt: Attempt, *, task_id: str, submitted_at: datetime | None, who: str, why: str
    ) -> Attempt:
        """Take a provider task for the one that an unanswered POST made."""
        return self._move(
            attempt,
            {State.IN_DOUBT, State.PARKED},
            State.ACCEPTED,
            who=who,
            note=why,
            task_id=task_id,
            submitted_at=submitted_at or attempt.sent_at,
            adopted=True,
            message=None,
        )

    def parked(self, attempt: Attempt, *, why: str) -> Attempt:
        """Leave an attempt to a person; its money stays reserved."""
        return self._move(attempt, {State.IN_DOUBT, State.PARKED}, State.PARKED, note=why, message=why)

    def reopened(self, attempt: Attempt, *, who: str, why: str) -> Attempt:
        """Put a parked attempt before the reconciliation again."""
        return self._move(attempt, {State.PARKED}, State.IN_DOUBT, who=who, note=why)

    def succeeded(self, attempt: Attempt, report: TaskReport) -> Attempt:
        """Keep what the service counted: from here on the edit is paid, whatever becomes of its file."""
        usage = report.usage
        return self._move(
            attempt,
            {State.ACCEPTED, State.SUCCEEDED},
            State.SUCCEEDED,
            submitted_at=report.submitted_at or attempt.submitted_at,
            scheduled_at=report.scheduled_at or attempt.scheduled_at,
            ended_at=report.ended_at or attempt.ended_at,
            **(dataclasses.asdict(usage) if usage else {}),  # what was counted once is not forgotten
        )

    def stored(self, attempt: Attempt, *, output: str, size: int, sha256: str) -> Attempt:
        """Say where the video is."""
        return self._move(
            attempt,
            {State.SUCCEEDED},
            State.STORED,
            output=output,
            output_bytes=size,
            output_sha256=sha256,
        )

    def settled(
        self,
        attempt: Attempt,
        outcome: Outcome,
        *,
        row: Mapping[str, Any],
        cost: Decimal | None,
        settled_at: datetime,
        who: str = "wanbatch",
        code: str | None = None,
        message: str | None = None,
    ) -> Attempt:
        """Close an attempt, with the row that the ledger will have of it."""
        return self._move(
            attempt,
            set(State) - {State.SETTLED},
            State.SETTLED,
            who=who,
            note=str(outcome) if outcome is Outcome.NOT_CREATED or who != "wanbatch" else "",
            outcome=outcome,
            cost=cost,
            ledger_row=json.dumps(row, default=_plain),
            code=code,
            message=message,
            settled_at=settled_at,
        )

    def _move(
        self,
        attempt: Attempt,
        allowed: set[State],
        state: State,
        *,
        who: str = "wanbatch",
        note: str = "",
        **values: Any,
    ) -> Attempt:
        with self._write() as db:
            now = self._now(db)
            values = {name: now if value is _NOW else value for name, value in values.items()}
            try:
                moved = db.execute(
                    schema.attempts.update()
                    .where(
                        schema.attempts.c.key == attempt.key,
                        schema.attempts.c.number == attempt.number,
                        schema.attempts.c.run_id == attempt.run_id,
                        schema.attempts.c.state.in_(allowed),
                    )
                    .values(state=state, **values)
                )
            except IntegrityError:  # the one unique column that changes
                task_id = values.get("task_id")
                raise ClaimLost(
                    f"{attempt.item.name}: provider task {task_id} is another attempt's"
                ) from None
            if moved.rowcount != 1:
                raise ClaimLost(f"{attempt.item.name}: another run, or a person, has taken it up")
            if note:
                db.execute(
                    schema.events.insert().values(
                        at=now, key=attempt.key, number=attempt.number, what=str(state), who=who, note=note
                    )
                )
        values.pop("ledger_row", None)
        return replace(attempt, state=state, **values)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"{type(value).__name__} has no place in a ledger row")
