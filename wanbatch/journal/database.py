"""Opening the database of a journal, and one short transaction at a time in it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from wanbatch.errors import JournalError
from wanbatch.journal import schema
from wanbatch.pace import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wanbatch.pace import Clock


class Database:
    """A database with a journal's tables."""

    def __init__(self, engine: sa.Engine, *, where: str, clock: Clock) -> None:
        self._engine = engine
        self._where = where
        self._clock = clock

    @classmethod
    def open(cls, url: str | Path, *, clock: Clock | None = None) -> Self:
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
                    f"this one writes {schema.SCHEMA_VERSION}); use that version"
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
