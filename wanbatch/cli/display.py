"""What people see: the progress line and the tables."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from wanbatch.progress import Progress, report_to
from wanbatch.redact import scrub

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wanbatch.summary import Summary

_WIDE = None if sys.stdout.isatty() else 120
"""A pipe or a file has no width: tables get enough of one."""

out = Console(highlight=False, soft_wrap=True, width=_WIDE)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_PLAIN_EVERY_S = 10.0
_ROWS_SHOWN = 40
_STYLES = {"succeeded": "green", "failed": "red", "refused": "red", "expired": "red", "cancelled": "yellow"}


def money(amount: Decimal | None, currency: str | None) -> str:
    """Show an amount without needless zeros, but never fewer than two places."""
    if amount is None:
        return "unknown"
    text = f"{amount.normalize():f}"
    whole, _, places = text.partition(".")
    return f"{whole}.{places.ljust(2, '0')} {currency or ''}".strip()


def seconds(value: Decimal | str | None) -> str:
    """Show billed seconds."""
    return "" if value is None else f"{Decimal(value).normalize():f}"


def number(many: int, noun: str) -> str:
    """Count things: `1 row`, `2,000 rows`."""
    return f"{many:,} {noun}" if many == 1 else f"{many:,} {noun}s"


def cell(value: object) -> Text:
    """Show untrusted text as it is: no markup, no control characters."""
    return Text("" if value is None else scrub(str(value)), overflow="ellipsis")


@contextmanager
def live_progress(*, quiet: bool) -> Iterator[None]:
    """Show one line of progress: alive on a terminal, a plain line now and then elsewhere."""
    if quiet:
        yield
        return
    if err.is_terminal:
        with Live(Text("starting …"), console=err, refresh_per_second=1, transient=True) as live:
            token = report_to.set(
                lambda progress: live.update(Text(progress_line(progress), overflow="ellipsis"))
            )
            try:
                yield
            finally:
                report_to.reset(token)
        return
    token = report_to.set(_PlainLines())
    try:
        yield
    finally:
        report_to.reset(token)


class _PlainLines:
    """A line when something changed, and not too often."""

    def __init__(self) -> None:
        self._said = ""
        self._at = float("-inf")

    def __call__(self, progress: Progress) -> None:
        line = progress_line(progress)
        if line != self._said and time.monotonic() - self._at >= _PLAIN_EVERY_S:
            self._said, self._at = line, time.monotonic()
            err.print(escape(line))


def progress_line(progress: Progress) -> str:
    """Say in one line how far a run is."""
    counts = progress.counts
    failed = sum(counts[name] for name in ("failed", "refused", "cancelled", "expired"))
    others = f" (+{progress.others} others)" if progress.others else ""
    parts = [
        f"{progress.settled:,}/{progress.rows:,} done",
        f"{progress.running}/{progress.slots} slots{others}",
    ]
    shown = ((failed, "failed"), (progress.in_doubt, "in doubt"), (counts["parked"], "parked"))
    parts += [f"{number:,} {words}" for number, words in shown if number]
    if progress.currency:
        parts.append(f"spent {money(progress.spent, progress.currency)}")
        parts.append(f"reserved {money(progress.reserved, None)}")
        if progress.budget is not None:
            left = progress.budget - progress.spent - progress.reserved
            parts.append(f"{money(max(left, Decimal(0)), None)} of the budget left")
    if progress.left_s is not None:
        parts.append(f"{duration(progress.left_s)} to go")
    if progress.trouble:
        parts.append(f"trouble: {scrub(progress.trouble)[:80]}")
    return " · ".join(parts)


def duration(seconds_left: float) -> str:
    """Show a length of time in its two largest units."""
    whole = round(seconds_left)
    for unit, size, next_unit, next_size in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // next_size}{next_unit}"
    return f"{whole}s"


def print_rows(rows: Sequence[Mapping[str, Any]], *, title: str | None = None) -> None:
    """Show what became of each item, from its ledger row."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    shown = [_cells(row) for row in rows[:_ROWS_SHOWN]]
    for number, name in enumerate(("item", "outcome", "size", "billed s", "cost")):
        widest = max(len(name), *(cells[number].cell_len for cells in shown)) if shown else len(name)
        right = name in {"billed s", "cost"}
        table.add_column(name, justify="right" if right else "left", no_wrap=True, min_width=min(widest, 40))
    table.add_column("video, or why not", overflow="ellipsis", no_wrap=True)
    for cells in shown:
        table.add_row(*cells)
    out.print(table)
    if len(rows) > _ROWS_SHOWN:
        out.print(f"… and {len(rows) - _ROWS_SHOWN:,} more")


def _cells(row: Mapping[str, Any]) -> tuple[Text, ...]:
    told = row["output"] or ": ".join(filter(None, (row["code"], row["message"])))
    cost = None if row["cost"] is None else Decimal(row["cost"])
    return (
        cell(row["id"] or row["key"][:12]),
        Text(row["status"], style=_STYLES.get(row["status"], "")),
        Text(row["resolution"]),
        Text(seconds(row["billed_s"])),
        Text(money(cost, row["currency"])),
        cell(told),
    )


def print_totals(rows: Sequence[Mapping[str, Any]]) -> None:
    """Show sums by service, currency, resolution and outcome."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("service", "size", "outcome", "attempts", "billed s", "cost"):
        table.add_column(name, justify="right" if name in {"attempts", "billed s", "cost"} else "left")
    for row in rows:
        unknown = f" + {row['unknown_cost']} unknown" if row["unknown_cost"] else ""
        known = row["attempts"] > row["unknown_cost"]
        table.add_row(
            cell(row["service"]),
            row["resolution"],
            Text(row["status"], style=_STYLES.get(row["status"], "")),
            f"{row['attempts']:,}",
            seconds(row["billed_s"]),
            (money(row["cost"], row["currency"]) if known else "") + unknown,
        )
    out.print(table)


def print_summary(summary: Summary) -> None:
    """Show how a run went, where everything is, and what to do next."""
    counts = dict(summary.counts)
    before = counts.pop("done_before", 0) + counts.pop("failed_before", 0)
    if summary.totals:
        print_totals(summary.totals)
        out.print()
    if before:
        out.print(f"{before:,} of {number(summary.rows, 'row')} settled before this run.")
    if repeats := counts.get("duplicates"):
        out.print(
            f"{number(repeats, 'row')} skipped: another row asks for the edit, or it is another service's."
        )
    if summary.lost:
        out.print(f"[red]{number(summary.lost, 'result')} gone after 24 hours, and perhaps billed.[/red]")
    out.print(f"billed {seconds(summary.billed_s)} s, cost {money(summary.cost, summary.currency)}", end="")
    out.print(
        f" + {summary.unknown_cost} of unknown cost"
        if summary.unknown_cost and summary.cost is not None
        else ""
    )
    out.print(f"videos   {escape(summary.videos)}")
    out.print(f"ledger   {escape(summary.ledger)}")
    out.print(f"journal  {escape(summary.journal)}")
    out.print(f"report   wanbatch report --ledger {escape(summary.ledger)}")
    if summary.parked:
        out.print(
            f"[yellow]{number(len(summary.parked), 'attempt')} parked: the money stays reserved until you decide; "
            f"see wanbatch resolve --ledger {escape(summary.ledger)}[/yellow]"
        )
    if summary.reason:
        out.print(f"[yellow]stopped early: {escape(scrub(summary.reason))}. Run it again to go on.[/yellow]")
    elif counts.get("left_open") or counts.get("elsewhere"):
        open_ = counts.get("left_open", 0) + counts.get("elsewhere", 0)
        out.print(f"[yellow]{number(open_, 'edit')} still open; run it again to go on.[/yellow]")
