"""How the command line shows what is logged: in colour above the progress line, or as JSON for machines."""

from __future__ import annotations

import logging

from wanbatch.errors import UsageError
from wanbatch.logs import FORMATS, LEVELS, JsonLines, show
from wanbatch.settings import asked_logs


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
