"""What is settled, in batches that each become one file of the ledger; and the way back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from wanbatch.journal import schema
from wanbatch.journal.records import Batch, State, settled_values
from wanbatch.journal.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping


class Batches(Runs):
    """Settled attempts on their way into the ledger."""

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
