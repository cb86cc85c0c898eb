"""Runs, and whether they are alive."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from wanbatch import lease
from wanbatch.journal import schema
from wanbatch.journal.database import Database


class Runs(Database):
    """The runs of a journal."""

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
