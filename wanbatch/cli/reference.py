"""Writes docs/reference from the code: `python -m wanbatch.cli.reference`, in the root of the project."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from opentelemetry.metrics import NoOpMeter
from opentelemetry.trace import NoOpTracer
from typer.cli import get_docs_for_click

from wanbatch.cli.commands import app
from wanbatch.errors import ExitCode
from wanbatch.ledger import columns as ledger_columns
from wanbatch.ledger import schema as ledger_schema
from wanbatch.manifest.columns import IMAGES, MEANINGS, TAG_PREFIX
from wanbatch.progress import EVENTS
from wanbatch.settings import (
    ADDRESS_VARIABLE,
    JOURNAL_VARIABLE,
    KEY_VARIABLE,
    LOG_FORMAT_VARIABLE,
    LOG_LEVEL_VARIABLE,
)
from wanbatch.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pyarrow as pa

    from wanbatch.ledger.columns import Meaning

_WRITTEN = "<!-- Written from the code by `make docs`. -->"
_TABLE = re.compile(r"(?<=<!-- columns -->\n).*?(?=<!-- /columns -->)", re.DOTALL)

_EXIT_CODES = {
    ExitCode.OK: ("everything succeeded", "nothing"),
    ExitCode.BUG: ("a fault of wanbatch", "report it, with the record that it logged; running again goes on"),
    ExitCode.USAGE: (
        "a wrong option, setting or manifest; nothing was submitted",
        "mend what the message names",
    ),
    ExitCode.SOME_FAILED: (
        "finished, and some rows failed; or `report --against` and `ledger verify` found something",
        "see `wanbatch report --by code`; [what the codes mean](../errors.md)",
    ),
    ExitCode.INCOMPLETE: (
        "stopped early: budget, limit, time, signal, a service or disk that did not answer",
        "run it again, within 24 hours when something is open",
    ),
    ExitCode.PARKED: ("attempts are parked; all else went on", "[decide](../how-to/in-doubt.md)"),
    ExitCode.ACCOUNT_STOPPED: (
        "the account was refused: key, arrears, quota; nothing more was submitted",
        "mend it there, then run again",
    ),
}


VARIABLES = {
    KEY_VARIABLE: "the API key: read, never kept or shown; `--key-variable` names another for a second account",
    ADDRESS_VARIABLE: "where the service is, ending in `/api/v1`; for a named service: its address in the same region",
    JOURNAL_VARIABLE: "where the journal is, when `--journal` does not say; here a URL may hold a password",
    LOG_FORMAT_VARIABLE: "`text` or `json`",
    LOG_LEVEL_VARIABLE: "`debug`, `info`, `warning` or `error`",
    "PREFECT_API_URL": "the Prefect server; without it each run starts its own for a while",
    "PREFECT_LOGGING_LEVEL": "and Prefect's other log levels: on the command line quiet, unless set",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "`false` on the command line, unless set",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "`120` on the command line, unless set",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "sends traces and metrics to a collector",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "the traces alone",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "the metrics alone",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "`http/protobuf`; no other is spoken",
    "OTEL_TRACES_EXPORTER": "`otlp`, `console` or `none`",
    "OTEL_METRICS_EXPORTER": "`otlp`, `prometheus`, `console` or `none`; several with commas",
    "OTEL_EXPORTER_PROMETHEUS_PORT": "serves metrics on this port, as `--metrics-port` does",
    "OTEL_EXPORTER_PROMETHEUS_HOST": "and on this host; `localhost` unless set",
    "OTEL_SERVICE_NAME": "who it is; `wanbatch` unless set, here or in `OTEL_RESOURCE_ATTRIBUTES`",
    "OTEL_SDK_DISABLED": "`true`: nothing is exported",
}
"""What the settings read, and what it does."""


def written(root: Path, name: str) -> str:
    """Write a page of `PAGES` anew, as text; raises `KeyError` where a meaning is missing."""
    return PAGES[name](root / name)


def _command_line(_: Path) -> str:
    """Put Typer's own page into plain Markdown, with whole sentences and links in its list of commands."""
    command = typer.main.get_command(app)
    text = html.unescape(get_docs_for_click(obj=command, ctx=typer.Context(command), name="wanbatch"))
    for path, words in _sentences(command, "wanbatch"):
        whole = f"* [`{path.rpartition(' ')[2]}`](#{path.replace(' ', '-')}): {words}"
        text = re.sub(rf"^\* `{path.rpartition(' ')[2]}`: .*", whole, text, flags=re.MULTILINE)
    for pattern, instead in _PLAINER:
        text = pattern.sub(instead, text)
    return _page("The command line", "`--help` after any command says the same.", text.strip())


def _sentences(group: Any, path: str) -> Iterator[tuple[str, str]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command.help
        if hasattr(command, "commands"):
            yield from _sentences(command, f"{path} {name}")


_PLAINER = (
    (re.compile(r"\A# .*\n"), ""),
    (re.compile(r"^\* `--help`: .*\n", re.MULTILINE), ""),
    (re.compile(r"^\*\*Options\*\*:\n\n(?=\n|\Z)", re.MULTILINE), ""),
    (re.compile(r"[{]([A-Z]+)[}]"), r"\1"),
    (re.compile(r"(?<=[A-Z]) <\w+>"), ""),
    (re.compile(r"\n{3,}"), "\n\n"),
)
"""What Typer writes for programmers, and what people read."""


def _exit_codes(_: Path) -> str:
    rows = [(str(int(code)), *_EXIT_CODES[code]) for code in ExitCode]
    words = (
        "What the process says to the shell that started it. Where several hold, `run` says the most urgent."
    )
    return _page("Exit codes", words, _table(("code", "means", "what to do"), rows))


def _environment(_: Path) -> str:
    words = (
        "What wanbatch itself reads. An option wins over its variable. Buckets have "
        "[their own](../storage.md#credentials), and so has [Prefect](https://docs.prefect.io/v3/api-ref/settings-ref)."
    )
    rows = [(f"`{name}`", meaning) for name, meaning in VARIABLES.items()]
    return _page("Environment variables", words, _table(("variable", "does"), rows))


def _manifest_columns(_: Path) -> str:
    words = (
        "The columns of a manifest. An empty cell is the default; a column of another name is an error that "
        "suggests the nearest of these. Formats, local files and buckets: [manifests](../../manifests/README.md)."
    )
    return _page("Manifest columns", words, _columns_table())


def _manifests_readme(page: Path) -> str:
    return _TABLE.sub(lambda _: f"\n{_columns_table()}\n\n", page.read_text(encoding="utf-8"))


def _columns_table() -> str:
    shown = {IMAGES[0]: f"`{IMAGES[0]}` … `{IMAGES[-1]}`", TAG_PREFIX: f"`{TAG_PREFIX}…`"}
    rows = [(shown.get(name, f"`{name}`"), *meaning) for name, meaning in MEANINGS.items()]
    return _table(("column", "holds", "default"), rows)


def _ledger_columns(_: Path) -> str:
    words = (
        "Any Parquet reader shows these ([how to read them](../ledger.md)). Null is unknown or not asked for, "
        f"never 0 and never an empty text. This is version {ledger_schema.SCHEMA_VERSION} of the columns."
    )
    parts = [
        "## `attempts`\n\nA row per settled attempt, written once and never changed.",
        _schema_table(ledger_schema.ATTEMPTS, ledger_columns.ATTEMPTS),
        "## `totals`\n\nThe sums of each run. A run that goes on has none yet.",
        _schema_table(ledger_schema.TOTALS, ledger_columns.TOTALS),
    ]
    return _page("Ledger columns", words, "\n\n".join(parts))


def _schema_table(schema: pa.Schema, meanings: Mapping[str, Meaning]) -> str:
    rows = [
        (f"`{field.name}`", f"`{field.type}`", meanings[field.name].unit, meanings[field.name].words)
        for field in schema
    ]
    return _table(("column", "type", "unit", "holds"), rows)


def _events_and_metrics(_: Path) -> str:
    words = (
        "Events go to the Prefect server of a run, where an [automation](../../deployments/README.md) can act on "
        "them. How to have the metrics: [watching runs](../observability.md)."
    )
    events = [(f"`wanbatch.{name}`", meaning) for name, meaning in EVENTS.items()]
    listing = _Listing("wanbatch")
    Recorder(NoOpTracer(), listing)
    parts = [
        "## Events",
        _table(("event", "when"), events),
        "## Metrics",
        _table(("metric", "kind", "unit", "what"), listing.found),
    ]
    return _page("Events and metrics", words, "\n\n".join(parts))


class _Listing(NoOpMeter):
    """A meter that notes what is asked of it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.found: list[tuple[str, str, str, str]] = []

    def _note(self, kind: str, name: str, unit: str, description: str) -> None:
        self.found.append((f"`{name}`", kind, unit.strip("{}"), description))

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Any:
        self._note("counter", name, unit, description)
        return super().create_counter(name, unit, description)

    def create_histogram(self, name: str, unit: str = "", description: str = "", **more: Any) -> Any:
        self._note("histogram", name, unit, description)
        return super().create_histogram(name, unit, description, **more)

    def create_observable_gauge(
        self, name: str, callbacks: Any = None, unit: str = "", description: str = ""
    ) -> Any:
        self._note("gauge", name, unit, description)
        return super().create_observable_gauge(name, callbacks, unit, description)

    def create_observable_up_down_counter(
        self, name: str, callbacks: Any = None, unit: str = "", description: str = ""
    ) -> Any:
        self._note("gauge, to be added up", name, unit, description)
        return super().create_observable_up_down_counter(name, callbacks, unit, description)


def _page(title: str, words: str, body: str) -> str:
    return "\n\n".join(filter(None, (f"# {title}", _WRITTEN, words, body))) + "\n"


def _table(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [names, tuple("---" for _ in names), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


PAGES: dict[str, Callable[[Path], str]] = {
    "docs/reference/cli.md": _command_line,
    "docs/reference/manifest-columns.md": _manifest_columns,
    "docs/reference/ledger-columns.md": _ledger_columns,
    "docs/reference/exit-codes.md": _exit_codes,
    "docs/reference/environment.md": _environment,
    "docs/reference/events-and-metrics.md": _events_and_metrics,
    "manifests/README.md": _manifests_readme,
}
"""Each page and who writes it."""


if __name__ == "__main__":
    for page in PAGES:
        (Path.cwd() / page).write_text(written(Path.cwd(), page), encoding="utf-8")
