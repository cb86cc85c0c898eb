"""Logs: every record of the process scrubbed when it is made, and shown as text or as one JSON object a line."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wanbatch.redact import ScrubFilter, scrub
from wanbatch.settings import asked_logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from wanbatch.session import Session, Work

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
_NAME = "wanbatch"

running: ContextVar[Session | None] = ContextVar("running", default=None)
"""The run that the records of this context are about."""
working_on: ContextVar[Work | None] = ContextVar("working_on", default=None)
"""The item that they are about; its attempt is looked up when a record is shown, since it changes on the way."""


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and what run and item it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record that `guard` has scrubbed."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about(),
        }
        if trace := "\n".join(filter(None, (record.exc_text, record.stack_info))):
            told["exception"] = trace
        return json.dumps(told)  # in ASCII: a terminal of any encoding shows valid JSON


def _about() -> dict[str, Any]:
    told: dict[str, Any] = {}
    if session := running.get():
        told |= {"run_id": session.run_id, "service": session.service.name}
    if work := working_on.get():
        told |= {"item": scrub(work.item.name), "key": work.item.key, "attempt": work.number}
        if work.attempt and work.attempt.task_id:
            told["task_id"] = scrub(work.attempt.task_id)
    return told


def show(handler: logging.Handler, level: str) -> None:
    """Show our records from `level` on, and the warnings of every library, through this one handler.

    It must have a formatter, and come before Prefect is imported: Prefect leaves the root logger alone then.
    """
    guard()
    root = logging.getLogger()
    for earlier in [one for one in root.handlers if one.get_name() == _NAME]:
        root.removeHandler(earlier)
    handler.set_name(_NAME)
    root.addHandler(handler)
    logging.getLogger(_NAME).setLevel(level.upper())
    logging.captureWarnings(capture=True)


def guard() -> None:
    """Scrub every record of this process when it is made, whoever logs it and whatever handlers there are.

    A filter would have to sit on every handler, also on those that other libraries add later: Prefect's, which
    sends records to its server, is one of them. Where no command line has said what to show, as in a
    deployment, the level is the environment's.
    """
    maker = logging.getLogRecordFactory()
    if not isinstance(maker, _Scrubbed):
        logging.setLogRecordFactory(_Scrubbed(maker))
    ours, (_, level) = logging.getLogger(_NAME), asked_logs()
    if ours.level == logging.NOTSET and level and level.lower() in LEVELS:
        ours.setLevel(level.upper())


class _Scrubbed:
    """Makes scrubbed records of what another factory makes."""

    def __init__(self, maker: Callable[..., logging.LogRecord]) -> None:
        self._maker = maker
        self._filter = ScrubFilter()

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._maker(*args, **kwargs)
        self._filter.filter(record)
        return record
