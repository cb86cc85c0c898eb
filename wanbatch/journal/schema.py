"""The tables, and how the database is opened: SQLite in one file, PostgreSQL across machines."""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

SCHEMA_VERSION = "2"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROS = Decimal(1_000_000)
_BUSY_MS = 30_000


class _Micros(sa.TypeDecorator[Decimal]):
    """A Decimal with six places as a whole number."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: sa.Dialect) -> int | None:  # noqa: ARG002 - the interface
        return None if value is None else int((value * _MICROS).to_integral_value())

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Decimal | None:  # noqa: ARG002 - the interface
        return None if value is None else Decimal(int(value)) / _MICROS


class _Time(sa.TypeDecorator[datetime]):
    """A time in UTC as whole microseconds, which every database orders alike."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:  # noqa: ARG002 - the interface
        return None if value is None else (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 - the interface
        return None if value is None else EPOCH + timedelta(microseconds=int(value))


metadata = sa.MetaData()

meta = sa.Table(
    "wanbatch",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("lease_until", _Time, nullable=False),
    sa.Column("service", sa.String, nullable=False),
    sa.Column("manifest", sa.String, nullable=False),
    sa.Column("started_at", _Time, nullable=False),
    sa.Column("ended_at", _Time),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("outcome", sa.String),
    sa.Column("service", sa.String, nullable=False),
    sa.Column("manifest", sa.String, nullable=False),
    sa.Column("row", sa.Integer, nullable=False),
    sa.Column("spec", sa.String, nullable=False),
    sa.Column("currency", sa.String),
    sa.Column("reserved", _Micros),
    sa.Column("cost", _Micros),
    sa.Column("input_s", _Micros),
    sa.Column("intended_at", _Time, nullable=False),
    sa.Column("sent_at", _Time),
    sa.Column("service_time", _Time),
    sa.Column("service_sent_at", _Time),
    sa.Column("doubted_at", _Time),
    sa.Column("task_id", sa.String, unique=True),
    sa.Column("submit_request_id", sa.String),
    sa.Column("adopted", sa.Boolean, nullable=False, default=False),
    sa.Column("submitted_at", _Time),
    sa.Column("scheduled_at", _Time),
    sa.Column("ended_at", _Time),
    sa.Column("billed_s", _Micros),
    sa.Column("input_video_s", _Micros),
    sa.Column("output_video_s", _Micros),
    sa.Column("video_count", sa.Integer),
    sa.Column("sr", sa.Integer),
    sa.Column("code", sa.String),
    sa.Column("message", sa.String),
    sa.Column("output", sa.String),
    sa.Column("output_bytes", sa.BigInteger),
    sa.Column("output_sha256", sa.String),
    sa.Column("settled_at", _Time),
    sa.Column("ledger_row", sa.String),
    sa.Column("batch", sa.String, index=True),
    sa.Index("attempts_by_state", "state", "service"),
    # These two hold all that a budget adds up: a claim is not to read every attempt of months.
    sa.Index("attempts_of_run", "run_id", "state", "currency", "cost", "reserved"),
    sa.Index("attempts_settled", "state", "currency", "settled_at", "cost", "reserved"),
)

sa.Index(
    "attempts_unbatched",
    attempts.c.state,
    attempts.c.run_id,
    sqlite_where=attempts.c.batch.is_(None),
    postgresql_where=attempts.c.batch.is_(None),
)
"""What is on its way into the ledger: few, however long the journal is."""

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("batch", sa.String, primary_key=True),
    sa.Column("run_id", sa.String, nullable=False),
    sa.Column("written_at", _Time),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", _Time, nullable=False),
    sa.Column("key", sa.String, nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("what", sa.String, nullable=False),
    sa.Column("who", sa.String, nullable=False),
    sa.Column("note", sa.String, nullable=False),
)


media = sa.Table(
    "media",
    metadata,
    sa.Column("identity", sa.String, primary_key=True),
    sa.Column("probed", sa.String, nullable=False),
    sa.Column("at", _Time, nullable=False),
)


def make_engine(url: str) -> sa.Engine:
    """Prepare the connection; nothing is opened yet."""
    engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Set what durability needs: https://www.sqlite.org/pragma.html#pragma_synchronous ."""
    connection.isolation_level = None  # the driver's own transactions would begin too late: we say BEGIN
    for setting in (f"busy_timeout={_BUSY_MS}", "synchronous=FULL"):
        connection.execute(f"PRAGMA {setting}")
    until = time.monotonic() + _BUSY_MS / 1000
    while not _set_wal(connection, last=time.monotonic() > until):
        time.sleep(0.02)


def _set_wal(connection: Any, *, last: bool) -> bool:
    """Say whether it could be set: SQLite does not wait where several connections set it on a new file."""
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if last or "locked" not in str(error):
            raise
        return False
    return True


def _begin_sqlite(db: sa.Connection) -> None:
    """Take the write lock at once: a lock taken half-way can fail at a moment when there is no way back."""
    db.exec_driver_sql("BEGIN" if db.get_execution_options().get("reading") else "BEGIN IMMEDIATE")


def shown(url: str) -> str:
    """Show a database URL without its password."""
    return sa.make_url(url).render_as_string(hide_password=True) if "://" in url else url


def mend(words: str) -> str:
    """Say what a person can do about a database error."""
    if "locked" in words:
        return "another process has held it for half a minute; see what it is, then run again"
    if "readonly" in words or "unable to open" in words:
        return "check that the folder exists and may be written, or choose another --journal"
    if "full" in words:
        return "free some disk space, then run again: nothing is lost"
    return "check that the database can be reached, then run again: nothing is lost"
