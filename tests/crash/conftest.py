"""What the crash tests share: a nursery of workers, and a stage to run one on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.nursery import Nursery, nursery


@pytest.fixture(scope="session")
def workers() -> Iterator[Nursery]:
    """Keep what starts workers quickly."""
    with nursery() as started:
        yield started
