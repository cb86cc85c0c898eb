"""What the journal knows of attempts, inputs and decisions."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from wanbatch.errors import JournalError
from wanbatch.journal import schema
from wanbatch.journal.records import Attempt, State
from wanbatch.journal.runs import Runs
from wanbatch.models import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

_KEYS_AT_ONCE = 500
"""SQLite takes a bounded number of parameters in one statement."""
COLUMNS = [schema.attempts.c[name] for name in Attempt.__dataclass_fields__]


class Reading(Runs):
    """Questions to a journal."""

    def is_empty(self) -> bool:
        """Whether nothing was ever claimed."""
        with self._read() as db:
            return db.scalar(sa.select(schema.attempts.c.key).limit(1)) is None

    def latest(self, keys: Iterable[str]) -> dict[str, Attempt]:
        """Find the last attempt at each of these items."""
        found: dict[str, Attempt] = {}
        asked = list(keys)
        with self._read() as db:
            for start in range(0, len(asked), _KEYS_AT_ONCE):
                some = schema.attempts.c.key.in_(asked[start : start + _KEYS_AT_ONCE])
                for row in db.execute(sa.select(*COLUMNS).where(some).order_by(schema.attempts.c.number)):
                    attempt = attempt_of(row)
                    found[attempt.key] = attempt
        return found

    def get(self, key: str, number: int) -> Attempt:
        """Read one attempt anew; raises `JournalError` when there is none."""
        with self._read() as db:
            return self._get(db, key, number)

    def _get(self, db: sa.Connection, key: str, number: int) -> Attempt:
        row = db.execute(
            sa.select(*COLUMNS).where(schema.attempts.c.key == key, schema.attempts.c.number == number)
        ).first()
        if row is None:
            raise JournalError(f"{self._where}: no attempt {number} of {key}")
        return attempt_of(row)

    def open_attempts(self, *states: State, service: str | None = None) -> list[Attempt]:
        """List attempts that are not settled, the oldest first; all of them, or those in some states."""
        chosen = schema.attempts.c.state.in_(states) if states else schema.attempts.c.state != State.SETTLED
        query = sa.select(*COLUMNS).where(chosen).order_by(schema.attempts.c.intended_at)
        if service:
            query = query.where(schema.attempts.c.service == service)
        with self._read() as db:
            return [attempt_of(row) for row in db.execute(query)]

    def unanswered(self, service: str) -> tuple[bool, list[Attempt]]:
        """Say whether a submit is on its way right now, and list the attempts that may own a task nobody knows.

        Those of all runs: in doubt, parked, or sent by a run that is gone.
        """
        states = (State.SENT, State.IN_DOUBT, State.PARKED)
        query = sa.select(*COLUMNS).where(
            schema.attempts.c.state.in_(states), schema.attempts.c.service == service
        )
        with self._read() as db:
            found = [attempt_of(row) for row in db.execute(query.order_by(schema.attempts.c.intended_at))]
            ended = sa.select(schema.runs.c.run_id).where(schema.runs.c.ended_at.is_not(None))
            gone = {*db.scalars(ended), *self._dead(db, self._now(db))}
        lost = [attempt for attempt in found if attempt.state is not State.SENT or attempt.run_id in gone]
        return len(lost) < len(found), lost

    def known_tasks(self, task_ids: Iterable[str]) -> set[str]:
        """Say which of these provider tasks the journal has."""
        asked, known = list(task_ids), set[str]()
        with self._read() as db:
            for start in range(0, len(asked), _KEYS_AT_ONCE):
                some = schema.attempts.c.task_id.in_(asked[start : start + _KEYS_AT_ONCE])
                known.update(db.scalars(sa.select(schema.attempts.c.task_id).where(some)))
        return known

    def probe_of(self, identity: str, *, since: datetime | None = None) -> str | None:
        """Read what was found when a medium was looked at; with `since`, not if that was earlier."""
        question = sa.select(schema.media.c.probed).where(schema.media.c.identity == identity)
        if since:
            question = question.where(schema.media.c.at >= since)
        with self._read() as db:
            return db.scalar(question)

    def keep_probe(self, identity: str, probed: str) -> None:
        """Keep what was found when a medium was looked at."""
        with suppress(IntegrityError), self._write() as db:  # another run was faster and found the same
            db.execute(schema.media.delete().where(schema.media.c.identity == identity))
            db.execute(schema.media.insert().values(identity=identity, probed=probed, at=self._now(db)))

    def events(self, key: str) -> list[tuple[datetime, int, str, str, str]]:
        """Tell what was decided about an item: time, attempt, state, who, why."""
        query = sa.select(
            schema.events.c.at,
            schema.events.c.number,
            schema.events.c.what,
            schema.events.c.who,
            schema.events.c.note,
        )
        with self._read() as db:
            return [
                tuple(row)
                for row in db.execute(query.where(schema.events.c.key == key).order_by(schema.events.c.id))
            ]

    def tally(self, manifest: str) -> list[dict[str, Any]]:
        """Add up the attempts at a manifest by service, outcome (or state, while open) and currency.

        Each has `service`, `status`, `currency`, `attempts`, `billed_s`, `reserved`, `cost`.
        """
        status = sa.func.coalesce(schema.attempts.c.outcome, schema.attempts.c.state).label("status")
        by = (schema.attempts.c.service, status, schema.attempts.c.currency)
        sums = sa.select(
            *by,
            sa.func.count().label("attempts"),
            *(sa.func.sum(schema.attempts.c[name]).label(name) for name in ("billed_s", "reserved", "cost")),
        )
        with self._read() as db:
            rows = db.execute(sums.where(schema.attempts.c.manifest == manifest).group_by(*by).order_by(*by))
            return [dict(row) for row in rows.mappings()]

    def rows_settled(self, manifest: str) -> int:
        """Count a manifest's items that have ended and are not tried again right now."""
        items = sa.select(sa.func.count(schema.attempts.c.key.distinct())).where(
            schema.attempts.c.manifest == manifest
        )
        with self._read() as db:
            ended = db.scalar(items.where(schema.attempts.c.state == State.SETTLED)) or 0
            again = items.where(schema.attempts.c.state != State.SETTLED, schema.attempts.c.number > 1)
            return ended - (db.scalar(again) or 0)

    def spent_by_currency(self) -> dict[str, Decimal]:
        """Add up what all runs have spent."""
        sums = sa.select(schema.attempts.c.currency, sa.func.sum(schema.attempts.c.cost)).where(
            schema.attempts.c.state == State.SETTLED, schema.attempts.c.currency.is_not(None)
        )
        with self._read() as db:
            rows = db.execute(sums.group_by(schema.attempts.c.currency))
            return {currency: amount or Decimal(0) for currency, amount in rows}


def attempt_of(row: sa.Row[Any]) -> Attempt:
    """Make an attempt of its columns."""
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    values["state"] = State(values["state"])
    values["outcome"] = values["outcome"] and Outcome(values["outcome"])
    return Attempt(**values)
