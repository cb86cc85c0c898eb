"""`wanbatch report`: what was spent, and whether the provider's bill says the same."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wanbatch.cli import display
from wanbatch.errors import ExitCode, StorageError, UsageError
from wanbatch.ledger import Ledger
from wanbatch.report import against, formats
from wanbatch.report.bill import read_bill
from wanbatch.report.period import read_period
from wanbatch.report.spending import USUAL, spending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from wanbatch.report.against import Comparison, Entry
    from wanbatch.report.formats import Sheet
    from wanbatch.report.period import Period
    from wanbatch.report.spending import Spending, Spent

_WRITERS: dict[str, Callable[[Sheet], str]] = {
    "csv": formats.as_csv,
    "json": formats.as_json,
    "markdown": formats.as_markdown,
}
_SHOWN_AS = {"resolution": "size", "status": "outcome"}
_MINUTE, _HOUR = 60, 3600


def show_report(
    ledger: str,
    *,
    by: Sequence[str],
    since: str | None,
    until: str | None,
    run_id: str | None,
    form: str,
    out: Path | None,
) -> ExitCode:
    """Show what a ledger, a period of it or a run cost; gives the exit code."""
    check_format(form)
    spent = spending(Ledger(ledger), by or USUAL, period(since, until), run_id=run_id)
    text = _WRITERS[form](formats.spending_sheet(spent)) if form in _WRITERS else _drawn(spent, out)
    write(text, out)
    return ExitCode.OK


def compare(
    ledger: str,
    bill: Path,
    *,
    since: str | None,
    until: str | None,
    run_id: str | None,
    form: str,
    out: Path | None,
) -> ExitCode:
    """Hold the ledger against a bill, and show each difference; gives the exit code."""
    check_format(form)
    found = against.compare(Ledger(ledger), read_bill(bill), period(since, until), run_id=run_id)
    text = _WRITERS[form](against.difference_sheet(found)) if form in _WRITERS else _compared(found, out)
    write(text, out)
    return ExitCode.SOME_FAILED if found.differences else ExitCode.OK


def check_format(form: str) -> None:
    """Refuse a format that is none; raises `UsageError`."""
    if form not in {"table", *_WRITERS}:
        raise UsageError(f"--format {form}: give one of table, {', '.join(_WRITERS)}, focus")


def period(since: str | None, until: str | None) -> Period:
    """Read the options of a period; raises `UsageError`."""
    return read_period(since, until, today=datetime.now(UTC).date())


def write(text: str, out: Path | None) -> None:
    """Write to a file, or to standard output; raises `StorageError`."""
    if out is None:
        display.out.file.write(text)
        return
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror}; give another --out") from None
    display.err.print(Text(f"wrote {out}"))


def drawing(out: Path | None) -> tuple[Console, io.StringIO]:
    """Give a console that draws into a text, as wide and colourful as where it is going to be seen."""
    text = io.StringIO()
    seen = out is None and display.out.is_terminal
    width = display.out.width if out is None else 120
    return Console(file=text, force_terminal=seen, width=width, highlight=False, soft_wrap=True), text


def _drawn(spent: Spending, out: Path | None) -> str:
    console, text = drawing(out)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in spent.by:
        table.add_column(Text(_SHOWN_AS.get(name, name)))
    for name in ("attempts", "billed s", "cost"):
        table.add_column(name, justify="right")
    for group in spent.groups:
        cells = [
            display.cell(group.group[name] if group.group[name] is not None else "-") for name in spent.by
        ]
        table.add_row(*cells, f"{group.attempts:,}", display.seconds(group.billed_s), _cost(group))
    console.print(table)
    console.print()
    for total in spent.totals:
        console.print(Text(_total(total)))
    return text.getvalue()


def _cost(spent: Spent) -> Text:
    known = [display.money(spent.cost, spent.currency)] if spent.cost is not None else []
    unknown = [f"{spent.unknown_cost:,} unknown"] if spent.unknown_cost else []
    return display.cell(" + ".join(known + unknown))


def _total(total: Spent) -> str:
    attempts, billed = display.number(total.attempts, "attempt"), display.seconds(total.billed_s) or "unknown"
    words = [f"{attempts}, billed {billed} s, cost {_cost(total)}"]
    if total.retries:
        words.append(f"{total.retries:,} of them retries")
    if total.lost_s:
        words.append(f"those without a result held slots for {_span(float(total.lost_s))}")
    return "; ".join(words)


def _span(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"


def _compared(found: Comparison, out: Path | None) -> str:
    console, text = drawing(out)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("day", "model", "task", "what", "ledger", "bill"):
        table.add_column(name)
    for one in found.differences:
        entry = one.entry
        cells = (
            entry.day,
            entry.model,
            entry.task_id,
            ", ".join(one.why),
            _side(one.ledger),
            _side(one.bill),
        )
        table.add_row(*map(display.cell, cells))
    if found.differences:
        console.print(table)
        console.print()
    for sums in found.sums:
        unknown = f" + {sums.unknown:,} unknown" if sums.unknown else ""
        console.print(
            Text(
                f"ledger {display.money(sums.ledger, sums.currency)}{unknown}, "
                f"bill {display.money(sums.bill, sums.currency)}"
            )
        )
    if found.differences:
        told = display.number(len(found.differences), "difference")
    else:
        told = (
            "the ledger and the bill agree" if found.sums else "neither the ledger nor the bill has anything"
        )
    console.print(Text(told))
    return text.getvalue()


def _side(entry: Entry | None) -> str:
    if entry is None:
        return "-"
    price = f" at {formats.number(entry.unit_price)}" if entry.unit_price is not None else ""
    seconds = f"{display.seconds(entry.billed_s)} s{price}: " if entry.billed_s is not None else ""
    return f"{seconds}{display.money(entry.cost, entry.currency)}"
