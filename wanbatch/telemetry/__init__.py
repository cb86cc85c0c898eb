"""Where a run tells what it does, for traces and metrics; see docs/observability.md.

Nothing here knows OpenTelemetry: a run that nobody asked for telemetry has no recorder, imports nothing and
pays for one look at a context variable. `wanbatch.telemetry.exporting` brings a recorder.
"""

from __future__ import annotations

import functools
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from wanbatch import wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from wanbatch.session import Session, Work
    from wanbatch.telemetry.recorder import Recorder
    from wanbatch.walk import Steps

_log = logging.getLogger(__name__)

recording: ContextVar[Recorder | None] = ContextVar("recording", default=None)


def of_run(
    walk: Callable[[Session, Steps], Coroutine[Any, Any, None]],
) -> Callable[[Session, Steps], Coroutine[Any, Any, None]]:
    """Trace a run, and what its steps do."""

    @functools.wraps(walk)
    async def traced(session: Session, steps: Steps) -> None:
        if recorder := recording.get():
            async with recorder.run(session):
                await walk(session, recorder.traced(steps))
        else:
            await walk(session, steps)

    return traced


def of_item(
    walk: Callable[[Session, Work, Steps], Coroutine[Any, Any, None]],
) -> Callable[[Session, Work, Steps], Coroutine[Any, Any, None]]:
    """Trace an item's way."""

    @functools.wraps(walk)
    async def traced(session: Session, work: Work, steps: Steps) -> None:
        if recorder := recording.get():
            async with recorder.item(work):
                await walk(session, work, steps)
        else:
            await walk(session, work, steps)

    return traced


def of_request(
    exchange: Callable[..., Awaitable[Any]],
) -> Callable[..., Awaitable[wire.Answer | wire.Failure]]:
    """Count the requests to the service."""

    @functools.wraps(exchange)
    async def counted(client: Any, http: Any, method: str, path: str, **request: Any) -> Any:
        exchanged = await exchange(client, http, method, path, **request)
        recorder = recording.get()
        if recorder or _log.isEnabledFor(logging.DEBUG):
            kind, outcome = kind_of(method, path), outcome_of(exchanged)
            _log.debug("%s: %s", kind, outcome)
            if recorder:
                recorder.requested(client.service.name, kind, outcome)
        return exchanged

    return counted


def of_poll(poll: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """Count the looks at what is running."""

    @functools.wraps(poll)
    async def counted(watcher: Any) -> None:
        recorder = recording.get()
        if recorder is None:
            await poll(watcher)
            return
        outcome = "cancelled"
        try:
            await poll(watcher)
            outcome = "ok"
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            recorder.polled(outcome)

    return counted


def settled(row: Mapping[str, Any]) -> None:
    """Tell of a settled attempt by its ledger row: what is counted is what the books say."""
    if recorder := recording.get():
        recorder.settled(row)


def kind_of(method: str, path: str) -> str:
    """Name what a request asks for."""
    if path == wire.SUBMIT_PATH:
        return "submit"
    if path == wire.UPLOADS_PATH:
        return "policy"
    if method == "POST":
        return "cancel"
    return "list" if path == f"{wire.TASKS_PATH}/" else "query"


def outcome_of(exchanged: wire.Answer | wire.Failure) -> str:
    """Say in a word how a request went."""
    if isinstance(exchanged, wire.Failure):
        return "unanswered" if exchanged.sent else "unsent"
    if not exchanged.whole:
        return "broken"
    if exchanged.status == _TOO_MANY:
        return THROTTLED
    classes = {2: "ok", 4: "refused", 5: "server_error"}
    return classes.get(exchanged.status // 100, "other")


THROTTLED = "throttled"
_TOO_MANY = 429
