"""The durable record of what was about to happen and what happened: the state machine of an attempt.

    intended → sent → accepted → succeeded → stored → settled
                 └→ in_doubt → accepted | settled | parked

Every change is committed before the next thing is done in the world: the intent before the POST, the task_id
right after it. A change is a compare-and-set by the run that holds the attempt: two runs never act on one.
Money is kept as whole millionths, so that the database adds it up exactly.

Signatures of URLs and keys of accounts are never written here.
"""

from __future__ import annotations

import dataclasses
import json
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from wanbatch import lease
from wanbatch.errors import BudgetReached, ClaimLost, JournalError
from wanbatch.journal import schema
from wanbatch.journal.records import Attempt, Batch, Cap, State, settled_values, spec_of
from wanbatch.models import Outcome
from wanbatch.pace import SystemClock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from wanbatch.models import Item, TaskReport
    from wanbatch.pace import Clock

__all__ = ["Attempt", "Batch", "Cap", "Journal", "Outcome", "State"]

_KEYS_AT_ONCE = 500
"""SQLite takes a bounded number of parameters in one statement."""
_COLUMNS = [schema.attempts.c[name] for name in Attempt.__dataclass_fields__]


_OPEN = tuple(state for state in State if state is not State.SETTLED)
_NOW = object()
"""Stands for the moment of the transaction."""


class Journal:
    """The journal of one ledger. Every method is one short transaction; call them one thread at a time."""

    def __init__(self, engine: sa.Engine, *, where: str, clock: Clock) -> None:
        self._engine = engine
        self._where = where
        self._clock = clock

    # -------------------------------------------------------------------------------------------- opening

    @classmethod
    def open(cls, url: str | Path, *, clock: Clock | None = None) -> Journal:
        """Open, or make, the journal at a path or a SQLAlchemy URL; its times are the clock's, of this machine if none.

        Raises `JournalError` when it is damaged, locked, of another version, or not to be reached.
        """
        where = str(url)
        if "://" not in where:
            path = Path(where)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise JournalError(
                    f"{path.parent}: {error.strerror}; choose another --ledger or --journal"
                ) from None
            where = f"sqlite:///{path}"
        elif where.startswith(("postgres://", "postgresql://")):
            where = "postgresql+psycopg://" + where.partition("://")[2]
        try:
            engine = schema.make_engine(where)
        except ImportError:
            raise JournalError(
                "a journal on PostgreSQL needs its driver: pip install 'wanbatch[postgres]'"
            ) from None
        except (sa.exc.ArgumentError, ValueError):  # it may hold a password: not shown
            raise JournalError(
                "--journal is no database URL; give a path or postgresql://user@host/name"
            ) from None
        journal = cls(engine, where=schema.shown(str(url)), clock=clock or SystemClock())
        try:
            journal._prepare()
        except JournalError:
            engine.dispose()
            raise
        return journal

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def _prepare(self) -> None:
        with self._write() as db:
            if db.dialect.name == "postgresql":
                db.execute(
                    sa.text("SELECT pg_advisory_xact_lock(2705)")
                )  # two runs may make the tables at once
            schema.metadata.create_all(db)
            for index in schema.attempts.indexes:  # older journals are without some of them
                index.create(db, checkfirst=True)
            version = db.scalar(sa.select(schema.meta.c.value).where(schema.meta.c.name == "schema"))
            if version is None:
                db.execute(schema.meta.insert().values(name="schema", value=schema.SCHEMA_VERSION))
            elif version != schema.SCHEMA_VERSION:
                raise JournalError(
                    f"{self._where}: written by another version of wanbatch (schema {version}, "
                    f"this one writes {schema.SCHEMA_VERSION}); use that version, or another --journal"
                )

    def check(self) -> None:
        """Look through a SQLite journal for damage; raises `JournalError`."""
        if self._engine.dialect.name != "sqlite":
            return
        with self._read() as db:
            found = db.scalar(sa.text("PRAGMA quick_check(1)"))
        if found != "ok":
            raise self._damaged(str(found))

    def _damaged(self, words: str) -> JournalError:
        return JournalError(
            f"{self._where}: the journal is damaged ({words}); move it away, keep it, and run "
            "`wanbatch restore` to rebuild what the ledger knows"
        )

    # ----------------------------------------------------------------------------------------------- runs

    def begin_run(self, run_id: str, *, service: str, manifest: str) -> None:
        """Enter a run; it holds what it claims until it ends or shows no sign of life."""
        with self._write() as db:
            now = self._now(db)
            db.execute(
                schema.runs.insert().values(
                    run_id=run_id,
                    owner=lease.me(),
                    lease_until=now + timedelta(seconds=lease.LEASE_S),
                    service=service,
                    manifest=manifest,
                    started_at=now,
                )
            )

    def heartbeat(self, run_id: str) -> None:
        """Renew the lease of a run."""
        with self._write() as db:
            until = self._now(db) + timedelta(seconds=lease.LEASE_S)
            db.execute(schema.runs.update().where(schema.runs.c.run_id == run_id).values(lease_until=until))

    def end_run(self, run_id: str) -> None:
        """Let go of everything a run holds."""
        with self._write() as db:
            db.execute(
                schema.runs.update().where(schema.runs.c.run_id == run_id).values(ended_at=self._now(db))
            )

    def dead_runs(self) -> list[str]:
        """Name the runs that never ended and whose process or lease is gone."""
        with self._read() as db:
            return self._dead(db, self._now(db))

    def live_runs(self, service: str) -> int:
        """Count the runs that are at work on a service."""
        with self._read() as db:
            dead = self._dead(db, self._now(db))
            going = (
                sa.select(sa.func.count())
                .select_from(schema.runs)
                .where(
                    schema.runs.c.ended_at.is_(None),
                    schema.runs.c.service == service,
                    schema.runs.c.run_id.not_in(dead),
                )
            )
            return db.scalar(going) or 0

    def at_work(self) -> set[tuple[str, str]]:
        """Name the service and the manifest of every run that is alive."""
        with self._read() as db:
            dead = self._dead(db, self._now(db))
            going = sa.select(schema.runs.c.service, schema.runs.c.manifest).where(
                schema.runs.c.ended_at.is_(None), schema.runs.c.run_id.not_in(dead)
            )
            return {(service, manifest) for service, manifest in db.execute(going)}

    def _dead(self, db: sa.Connection, now: datetime) -> list[str]:
        going = db.execute(
            sa.select(schema.runs.c.run_id, schema.runs.c.owner, schema.runs.c.lease_until).where(
                schema.runs.c.ended_at.is_(None)
            )
        )
        return [run_id for run_id, owner, until in going if until < now or lease.gone(owner)]

    # ------------------------------------------------------------------------------------------- claiming

    def take_over(self, run_id: str, service: str) -> list[Attempt]:
        """Claim every open attempt at a service that nobody holds any more, the oldest first.

        A `sent` attempt of a run that died got no answer: it is in doubt from now on. One that was only intended
        is forgotten: the manifest brings it up again, with its signatures, and under this run's budget.
        """
        with self._write() as db:
            now = self._now(db)
            free = sa.or_(
                schema.attempts.c.run_id.in_(self._dead(db, now)),
                schema.attempts.c.run_id.in_(
                    sa.select(schema.runs.c.run_id).where(schema.runs.c.ended_at.is_not(None))
                ),
                schema.attempts.c.run_id == run_id,
            )
            ours = sa.and_(
                schema.attempts.c.state != State.SETTLED, schema.attempts.c.service == service, free
            )
            db.execute(schema.attempts.delete().where(ours, schema.attempts.c.state == State.INTENDED))
            db.execute(schema.attempts.update().where(ours).values(run_id=run_id))
            lost = schema.attempts.update().where(ours, schema.attempts.c.state == State.SENT)
            db.execute(lost.values(state=State.IN_DOUBT, doubted_at=now))
            mine = sa.select(*_COLUMNS).where(
                schema.attempts.c.run_id == run_id, schema.attempts.c.state != State.SETTLED
            )
            return [_attempt(row) for row in db.execute(mine.order_by(schema.attempts.c.intended_at))]

    def claim(
        self,
        run_id: str,
        item: Item,
        *,
        service: str,
        manifest: str,
        number: int,
        reserve: Decimal | None = None,
        currency: str | None = None,
        input_s: Decimal | None = None,
        caps: Sequence[Cap] = (),
    ) -> Attempt:
        """Intend attempt `number` at an item and reserve its worst cost, or neither.

        Raises `ClaimLost` when another run was faster, `BudgetReached` when it does not fit under a cap.
        """
        with self._write() as db:
            if caps and db.dialect.name == "postgresql":
                db.execute(
                    sa.select(schema.meta.c.value).where(schema.meta.c.name == "schema").with_for_update()
                )
            for cap in caps:
                self._fit(db, cap, run_id, reserve)
            try:
                db.execute(
                    schema.attempts.insert().values(
                        key=item.key,
                        number=number,
                        run_id=run_id,
                        state=State.INTENDED,
                        service=service,
                        manifest=manifest,
                        row=item.row,
                        spec=spec_of(item),
                        currency=currency,
                        reserved=reserve,
                        input_s=input_s,
                        intended_at=self._now(db),
                        adopted=False,
                    )
                )
            except IntegrityError:
                raise ClaimLost(f"{item.name}: another run has it") from None
            return self._get(db, item.key, number)

    def _fit(self, db: sa.Connection, cap: Cap, run_id: str, reserve: Decimal | None) -> None:
        committed = self._committed(db, cap, run_id)
        if reserve is None or committed + reserve > cap.amount:
            raise BudgetReached(
                f"the budget of {cap.amount} {cap.currency} is reached: {committed} are spent or reserved, "
                f"and the next edit could cost {reserve if reserve is not None else 'an unknown amount'}"
            )

    def _committed(self, db: sa.Connection, cap: Cap, run_id: str) -> Decimal:
        """Add up what is spent and what is reserved under a cap."""
        settled = sa.and_(
            schema.attempts.c.state == State.SETTLED, schema.attempts.c.currency == cap.currency
        )
        going = sa.and_(schema.attempts.c.state.in_(_OPEN), schema.attempts.c.currency == cap.currency)
        if cap.since is None:
            settled, going = (
                sa.and_(settled, schema.attempts.c.run_id == run_id),
                sa.and_(going, schema.attempts.c.run_id == run_id),
            )
        else:
            settled = sa.and_(settled, schema.attempts.c.settled_at >= cap.since)
        # A settled attempt of unknown cost counts with what was reserved for it.
        spent = db.scalar(
            sa.select(
                sa.func.sum(sa.func.coalesce(schema.attempts.c.cost, schema.attempts.c.reserved, 0))
            ).where(settled)
        )
        reserved = db.scalar(sa.select(sa.func.sum(schema.attempts.c.reserved)).where(going))
        return (spent or Decimal(0)) + (reserved or Decimal(0))

    def spent_by_currency(self) -> dict[str, Decimal]:
        """Add up what all runs have spent."""
        sums = sa.select(schema.attempts.c.currency, sa.func.sum(schema.attempts.c.cost)).where(
            schema.attempts.c.state == State.SETTLED, schema.attempts.c.currency.is_not(None)
        )
        with self._read() as db:
            rows = db.execute(sums.group_by(schema.attempts.c.currency))
            return {currency: amount or Decimal(0) for currency, amount in rows}

    def committed(self, cap: Cap, run_id: str) -> Decimal:
        """Add up what is spent and what is reserved under a cap."""
        with self._read() as db:
            return self._committed(db, cap, run_id)

    # -------------------------------------------------------------------------------------- transitions

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

    def withdrawn(self, attempt: Attempt) -> None:
        """Forget an attempt that was never sent, and free its money."""
        with self._write() as db:
            db.execute(
                schema.attempts.delete().where(
                    schema.attempts.c.key == attempt.key,
                    schema.attempts.c.number == attempt.number,
                    schema.attempts.c.run_id == attempt.run_id,
                    schema.attempts.c.state == State.INTENDED,
                )
            )

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

    # --------------------------------------------------------------------------------------------- reading

    def latest(self, keys: Iterable[str]) -> dict[str, Attempt]:
        """Find the last attempt at each of these items."""
        found: dict[str, Attempt] = {}
        asked = list(keys)
        with self._read() as db:
            for start in range(0, len(asked), _KEYS_AT_ONCE):
                some = schema.attempts.c.key.in_(asked[start : start + _KEYS_AT_ONCE])
                for row in db.execute(sa.select(*_COLUMNS).where(some).order_by(schema.attempts.c.number)):
                    attempt = _attempt(row)
                    found[attempt.key] = attempt
        return found

    def get(self, key: str, number: int) -> Attempt:
        """Read one attempt anew; raises `JournalError` when there is none."""
        with self._read() as db:
            return self._get(db, key, number)

    def _get(self, db: sa.Connection, key: str, number: int) -> Attempt:
        row = db.execute(
            sa.select(*_COLUMNS).where(schema.attempts.c.key == key, schema.attempts.c.number == number)
        ).first()
        if row is None:
            raise JournalError(f"{self._where}: no attempt {number} of {key}")
        return _attempt(row)

    def open_attempts(self, *states: State, service: str | None = None) -> list[Attempt]:
        """List attempts that are not settled, the oldest first; all of them, or those in some states."""
        chosen = schema.attempts.c.state.in_(states) if states else schema.attempts.c.state != State.SETTLED
        query = sa.select(*_COLUMNS).where(chosen).order_by(schema.attempts.c.intended_at)
        if service:
            query = query.where(schema.attempts.c.service == service)
        with self._read() as db:
            return [_attempt(row) for row in db.execute(query)]

    def unanswered(self, service: str) -> tuple[bool, list[Attempt]]:
        """Say whether a submit is on its way right now, and list the attempts that may own a task nobody knows.

        Those of all runs: in doubt, parked, or sent by a run that is gone.
        """
        states = (State.SENT, State.IN_DOUBT, State.PARKED)
        query = sa.select(*_COLUMNS).where(
            schema.attempts.c.state.in_(states), schema.attempts.c.service == service
        )
        with self._read() as db:
            found = [_attempt(row) for row in db.execute(query.order_by(schema.attempts.c.intended_at))]
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

    def probe_of(self, identity: str) -> str | None:
        """Read what was found when a medium was looked at."""
        with self._read() as db:
            return db.scalar(sa.select(schema.media.c.probed).where(schema.media.c.identity == identity))

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

    # ---------------------------------------------------------------------------------------------- ledger

    def take_batch(self, run_id: str, name: str, *, at_most: int = 10_000) -> Batch | None:
        """Set settled attempts of a run aside as one batch, under a name that stays theirs; None if there are none."""
        with self._write() as db:
            waiting = (
                sa.select(schema.attempts.c.key, schema.attempts.c.number)
                .where(
                    schema.attempts.c.run_id == run_id,
                    schema.attempts.c.state == State.SETTLED,
                    schema.attempts.c.batch.is_(None),
                )
                .order_by(schema.attempts.c.settled_at, schema.attempts.c.key, schema.attempts.c.number)
                .limit(at_most)
                .with_for_update()  # two runs may clear up after the same dead one
            )
            chosen = [tuple(row) for row in db.execute(waiting)]
            if not chosen:
                return None
            db.execute(schema.batches.insert().values(batch=name, run_id=run_id))
            for key, number in chosen:
                db.execute(
                    schema.attempts.update()
                    .where(schema.attempts.c.key == key, schema.attempts.c.number == number)
                    .values(batch=name)
                )
            return self._batch(db, name, run_id)

    def unwritten(self, run_id: str) -> list[Batch]:
        """List the batches that were set aside by this run, or by one that died, and not written."""
        with self._read() as db:
            gone = sa.or_(
                schema.batches.c.run_id == run_id,
                schema.batches.c.run_id.in_(self._dead(db, self._now(db))),
                schema.batches.c.run_id.in_(
                    sa.select(schema.runs.c.run_id).where(schema.runs.c.ended_at.is_not(None))
                ),
            )
            rows = db.execute(
                sa.select(schema.batches.c.batch, schema.batches.c.run_id).where(
                    schema.batches.c.written_at.is_(None), gone
                )
            ).all()
            return [self._batch(db, name, owner) for name, owner in rows]

    def unbatched_runs(self, run_id: str) -> list[str]:
        """Name this run and the ended or dead ones that settled attempts and did not set them aside."""
        with self._read() as db:
            waiting = sa.select(schema.attempts.c.run_id).where(
                schema.attempts.c.state == State.SETTLED, schema.attempts.c.batch.is_(None)
            )
            found = set(db.scalars(waiting.distinct()))
            ended = set(
                db.scalars(sa.select(schema.runs.c.run_id).where(schema.runs.c.ended_at.is_not(None)))
            )
            return sorted(found & (ended | set(self._dead(db, self._now(db))) | {run_id}))

    def _batch(self, db: sa.Connection, name: str, run_id: str) -> Batch:
        rows = db.scalars(
            sa.select(schema.attempts.c.ledger_row)
            .where(schema.attempts.c.batch == name)
            .order_by(schema.attempts.c.settled_at, schema.attempts.c.key, schema.attempts.c.number)
        )
        return Batch(name=name, run_id=run_id, rows=tuple(json.loads(row) for row in rows if row))

    def batches_of(self, run_id: str, *, but: Collection[str] = ()) -> Iterator[Batch]:
        """Give the batches of a run, written or not, without those whose names are known."""
        with self._read() as db:
            names = db.scalars(sa.select(schema.batches.c.batch).where(schema.batches.c.run_id == run_id))
            for name in sorted(set(names) - set(but)):
                yield self._batch(db, name, run_id)

    def written(self, batch: Batch) -> None:
        """Say that a batch's file is in the ledger."""
        with self._write() as db:
            db.execute(
                schema.batches.update()
                .where(schema.batches.c.batch == batch.name)
                .values(written_at=self._now(db))
            )

    def settled_rows(self, run_id: str) -> Iterator[Mapping[str, Any]]:
        """Give the ledger rows of everything a run settled."""
        with self._read() as db:
            rows = db.scalars(
                sa.select(schema.attempts.c.ledger_row)
                .where(schema.attempts.c.run_id == run_id, schema.attempts.c.state == State.SETTLED)
                .execution_options(yield_per=1_000)
            )
            for row in rows:
                yield json.loads(row)

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Enter settled attempts from the ledger's rows, where the journal has none; says how many."""
        count = 0
        with self._write() as db:
            batch = f"restored-{self._now(db):%Y%m%dT%H%M%SZ}"
            for row in rows:
                known = sa.select(schema.attempts.c.key).where(
                    schema.attempts.c.key == row["key"], schema.attempts.c.number == row["attempt"]
                )
                if db.scalar(known) is None:
                    db.execute(schema.attempts.insert().values(**settled_values(row), batch=batch))
                    count += 1
        return count

    # ------------------------------------------------------------------------------------------- machinery

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._clear_errors(), self._engine.begin() as db:
            yield db

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with self._clear_errors(), self._engine.connect() as db:
            yield db.execution_options(reading=True)

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            words = (str(error.orig).strip() or "no answer").splitlines()[0]
            if "malformed" in words or "not a database" in words:
                raise self._damaged(words) from None
            raise JournalError(f"{self._where}: {words}; {schema.mend(words)}") from None

    def _now(self, db: sa.Connection) -> datetime:
        """Tell the time that leases run by: of the database where machines share one, else of this machine."""
        if db.dialect.name == "postgresql":
            seconds = db.scalar(sa.text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))
            return schema.EPOCH + timedelta(microseconds=int(seconds or 0))
        return self._clock.now()


def _attempt(row: sa.Row[Any]) -> Attempt:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    values["state"] = State(values["state"])
    values["outcome"] = values["outcome"] and Outcome(values["outcome"])
    return Attempt(**values)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"{type(value).__name__} has no place in a ledger row")
