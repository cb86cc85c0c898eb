"""Files that others only ever see whole."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def hidden_beside(path: Path) -> Path:
    """Name a file beside `path` that nobody else writes; containers share folders and process ids."""
    return path.with_name(f".{uuid.uuid4().hex}.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a hidden file to write, which takes the place of `path` unless an exception comes."""
    part = hidden_beside(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
