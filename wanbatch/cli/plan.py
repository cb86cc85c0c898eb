"""`wanbatch plan`: what a run would do, what it would cost, how long it would take."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from wanbatch.cli import display
from wanbatch.errors import ExitCode
from wanbatch.planning import Standing, as_json, make_plan, write_plan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wanbatch.options import RunOptions
    from wanbatch.planning import Plan, Sums

_VALUES_SHOWN = 20
_PROBLEMS_SHOWN = 20
_WORDS = {
    Standing.NEW: "new",
    Standing.AGAIN: "failed before, tried again",
    Standing.OPEN: "open from before, taken up",
    Standing.PARKED: "parked, left to a person: see wanbatch resolve",
    Standing.DONE: "done before",
    Standing.FAILED: "failed before, left as they are (--retry edits them again)",
    Standing.DUPLICATE: "the same edit as another row, made once",
    Standing.ELSEWHERE: "another service's",
    Standing.REFUSED: "with an input that would be refused",
}


def show_plan(options: RunOptions, *, out: Path | None, as_data: bool) -> ExitCode:
    """Make a plan and show it, or keep it in a file; gives the exit code."""
    if options.probe and not as_data:
        display.err.print("looking at the inputs (--no-probe leaves that out)")
    plan = asyncio.run(make_plan(options))
    if out:
        write_plan(plan, out)
    if as_data:
        display.out.print_json(json.dumps(as_json(plan)))
        return ExitCode.OK
    _show_rows(plan)
    _show_cost(plan)
    _show_time(plan)
    _show_tags(plan)
    _show_dearest(plan)
    _show_problems(plan)
    if out:
        display.out.print(f"\nkept in {escape(str(out))}: wanbatch run --plan {escape(str(out))} holds to it")
    return ExitCode.OK


def _show_rows(plan: Plan) -> None:
    display.out.print(f"{display.number(plan.rows, 'row')} for {escape(plan.service.name)}")
    for standing, words in _WORDS.items():
        if number := plan.counts[standing]:
            display.out.print(f"{number:>9,} {words}")
    if (more := plan.open_edits - plan.counts[Standing.OPEN]) > 0:
        display.out.print(f"{more:>9,} open of other manifests, taken up too")


def _show_cost(plan: Plan) -> None:
    display.out.print()
    _show_sums([("new", plan.new)], plan, heading="cost")
    for currency, amount in sorted(plan.reserved.items()):
        display.out.print(f"reserved for what is open or parked: {display.money(amount, currency)}")
    for reason in _reasons(plan):
        display.out.print(f"  {reason}")


def _reasons(plan: Plan) -> list[str]:
    """Say why low, expected and worst differ."""
    reasons = []
    if plan.new.unknown:
        reasons.append(f"without a known price: {plan.new.unknown:,}; --rate-card names prices")
    if plan.unknown_length:
        reasons.append(
            f"inputs not looked at: {plan.unknown_length:,}; 2 s each at least, 6 s expected, 10 s at worst"
        )
    if plan.cut:
        reasons.append(
            f"inputs cut short: {plan.cut:,}; it is not documented whether the part that is cut off is billed: "
            "low says no, expected and worst say yes"
        )
    if plan.new.edits:
        reasons.append("worst is what a run reserves: an output may last a few frames longer than its input")
    return reasons


def _show_time(plan: Plan) -> None:
    if not plan.new.edits + plan.open_edits:
        return
    times = plan.run_times
    left = plan.seconds_left(times.mean)
    source = (
        f"{times.mean:.0f} s is the average of {display.number(times.samples, 'edit')} in the ledger"
        if times.samples
        else f"a first guess of {times.mean:.0f} s an edit: the ledger has none of this service yet"
    )
    display.out.print(
        f"\ntime {_duration(left)}, done about {plan.made_at + timedelta(seconds=left):%Y-%m-%d %H:%M} UTC "
        f"({_duration(plan.seconds_left(times.quick))} to {_duration(plan.seconds_left(times.slow))}); "
        f"{plan.service.limits.slots} at once; {source}"
    )


def _duration(seconds: float) -> str:
    minutes = max(round(seconds / 60), 1)
    days, minutes = divmod(minutes, 1440)
    hours, minutes = divmod(minutes, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def _show_tags(plan: Plan) -> None:
    for tag, values in plan.tags.items():
        dearest = sorted(values.items(), key=lambda pair: pair[1].expected, reverse=True)
        display.out.print()
        _show_sums(dearest[:_VALUES_SHOWN], plan, heading=f"by {tag}")
        if (more := len(dearest) - _VALUES_SHOWN) > 0:
            display.out.print(f"… and {more:,} more values; --json has them")


def _show_sums(rows: Sequence[tuple[str, Sums]], plan: Plan, *, heading: str) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(display.cell(heading), overflow="ellipsis", no_wrap=True)
    for name in ("edits", "billed s", "low", "expected", "worst"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, sums in rows:
        amounts = (sums.low, sums.expected, sums.worst)
        shown = [_amount(amount, sums, plan.rates.currency) for amount in amounts]
        table.add_row(display.cell(name), f"{sums.edits:,}", display.seconds(sums.seconds), *shown)
    display.out.print(table)


def _amount(amount: Decimal, sums: Sums, currency: str | None) -> str:
    if not sums.known:
        return "unknown"
    return display.money(amount, currency) + (" + unknown" if sums.unknown else "")


def _show_dearest(plan: Plan) -> None:
    if not plan.dearest:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("dearest", "row", "billed s", "expected", "worst"):
        table.add_column(name, justify="left" if name == "dearest" else "right", no_wrap=True)
    table.add_column("video", overflow="ellipsis", no_wrap=True)
    for dear in plan.dearest:
        expected = dear.expected if dear.worst is not None else None
        table.add_row(
            display.cell(dear.name),
            f"{dear.row:,}",
            display.seconds(dear.seconds),
            display.money(expected, plan.rates.currency),
            display.money(dear.worst, plan.rates.currency),
            display.cell(dear.video),
        )
    display.out.print()
    display.out.print(table)


def _show_problems(plan: Plan) -> None:
    if not plan.problems:
        return
    refused = plan.counts[Standing.REFUSED]
    display.out.print(
        f"\n[red]{display.number(refused, 'row')} would be refused; the cost leaves them out:[/red]"
    )
    for problem in plan.problems[:_PROBLEMS_SHOWN]:
        display.out.print(display.cell(f"  {problem}"))
    if (more := refused - _PROBLEMS_SHOWN) > 0:
        display.out.print(f"  … and {more:,} more; `wanbatch check --probe` shows them all")
