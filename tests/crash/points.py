"""The points at which a run may die: before and after everything that is done to the world or to a disk."""

from __future__ import annotations

import functools
import inspect
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanbatch.client import WanClient
from wanbatch.journal import Journal
from wanbatch.ledger import Ledger
from wanbatch.storage import Folder, VideoStore, places

if TYPE_CHECKING:
    from collections.abc import Callable

DIED = 77
"""The exit status of a process that died at its point."""

_PLACES: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (WanClient, ("submit", "query", "tasks")),
    (VideoStore, ("fetch",)),
    (Folder, ("publish",)),
    (places, ("_make_durable",)),
    (
        Journal,
        (
            "begin_run",
            "end_run",
            "take_over",
            "claim",
            "sent",
            "unsent",
            "withdrawn",
            "accepted",
            "in_doubt",
            "adopted",
            "parked",
            "succeeded",
            "stored",
            "settled",
            "take_batch",
            "written",
        ),
    ),
    (Ledger, ("write_batch", "write_totals")),
)


def install(*, trace: str | None, die_at: tuple[str, int] | None) -> None:
    """Write the name of every point that is passed to a file, or die at the nth passing of one, or neither."""
    if trace is None and die_at is None:
        return
    passed: Counter[str] = Counter()

    def pass_by(point: str) -> None:
        passed[point] += 1
        if trace:
            with Path(trace).open("a", encoding="utf-8") as file:
                file.write(f"{point}\n")
        if die_at and [point, passed[point]] == list(die_at):
            os._exit(DIED)

    for owner, names in _PLACES:
        for name in names:
            setattr(owner, name, _with_points(getattr(owner, name), name, pass_by))


def _with_points(call: Callable[..., Any], name: str, pass_by: Callable[[str], None]) -> Callable[..., Any]:
    @functools.wraps(call)
    async def asynchronous(*args: Any, **kwargs: Any) -> Any:
        pass_by(f"before {name}")
        try:
            return await call(*args, **kwargs)
        finally:
            pass_by(f"after {name}")

    @functools.wraps(call)
    def plain(*args: Any, **kwargs: Any) -> Any:
        pass_by(f"before {name}")
        try:
            return call(*args, **kwargs)
        finally:
            pass_by(f"after {name}")

    return asynchronous if inspect.iscoroutinefunction(call) else plain
