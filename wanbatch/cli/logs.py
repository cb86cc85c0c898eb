"""How the command line shows what is logged: in colour above the progress line, or as JSON for machines."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from wanbatch.errors import UsageError
from wanbatch.logs import FORMATS, LEVELS, JsonLines, show
from wanbatch.settings import asked_logs

if TYPE_CHECKING:
    from types import TracebackType

_log = logging.getLogger("wanbatch")


def show_logs(form: str | None = None, level: str | None = None, *, quiet: bool = False) -> None:
    """Show logs as the options, else the environment ask; as text from `warning` on, as JSON from `info` on.

    Raises `UsageError` for a format or level that is none.
    """
    asked_form, asked_level = asked_logs()
    form = (form or asked_form or "text").lower()
    usual = "error" if quiet else "info" if form == "json" else "warning"
    level = (level or asked_level or usual).lower()
    if form not in FORMATS:
        raise UsageError(f"{form!r} is no log format; give {' or '.join(FORMATS)}")
    if level not in LEVELS:
        raise UsageError(f"{level!r} is no log level; give one of {', '.join(LEVELS)}")
    if form == "json":
        handler: logging.Handler = logging.StreamHandler()
        handler.setFormatter(JsonLines())
    else:
        handler = TerminalLines()
        handler.setFormatter(logging.Formatter())
    show(handler, level)
    sys.excepthook = _uncaught


def are_json() -> bool:
    """Say whether standard error is for machines: JSON, and nothing else."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


class TerminalLines(logging.Handler):
    """Prints each record as one line, above the live progress; a fault of ours with its traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        from rich.text import Text

        from wanbatch.cli import display

        style = "red" if record.levelno >= logging.ERROR else "yellow"
        display.err.print(Text(f"{record.levelname.lower()}: {self.format(record)}", style=style))


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show the traceback of a fault of ours, scrubbed as every record is."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        _log.critical("a fault of wanbatch; please report it", exc_info=(kind, error, trace))
