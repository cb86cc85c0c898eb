"""Tables of untrusted text as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from wanbatch.redact import scrub

if TYPE_CHECKING:
    from wanbatch.report.spending import Spending

Cell = str | int | Decimal | None
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MARKS = re.compile(r"([\\`*_\[\]|~#])")


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows under names. Text is of any origin; None is what is unknown or not there."""

    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def spending_sheet(spending: Spending) -> Sheet:
    """Lay out what was spent, a row a group and currency."""
    sums = ("currency", "attempts", "billed_s", "cost", "unknown_cost", "retries", "lost_s")
    rows = (
        (
            *(spent.group[name] for name in spending.by),
            spent.currency,
            spent.attempts,
            spent.billed_s,
            spent.cost,
            spent.unknown_cost,
            spent.retries,
            spent.lost_s,
        )
        for spent in spending.groups
    )
    return Sheet((*spending.by, *sums), tuple(rows))


def as_csv(sheet: Sheet) -> str:
    """Write CSV in which no cell starts a formula, and a cost that is not known says so."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_harmless(name) for name in sheet.names])
    for row in sheet.rows:
        writer.writerow([_harmless(_said(name, value)) for name, value in zip(sheet.names, row, strict=True)])
    return text.getvalue()


def as_json(sheet: Sheet) -> str:
    """Write a list of objects; decimals are text, so that they stay exact."""
    rows = [{name: _plain(value) for name, value in zip(sheet.names, row, strict=True)} for row in sheet.rows]
    return json.dumps(rows, indent=2) + "\n"


def as_markdown(sheet: Sheet) -> str:
    """Write a table of GitHub's Markdown, in which text is only text."""
    numbers = [
        any(isinstance(row[place], (int, Decimal)) for row in sheet.rows) for place in range(len(sheet.names))
    ]
    lines = [[_literal(name) for name in sheet.names], ["---:" if number else "---" for number in numbers]]
    lines += [
        [_literal(_said(name, value)) for name, value in zip(sheet.names, row, strict=True)]
        for row in sheet.rows
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def number(value: Decimal) -> str:
    """Write a decimal in full, without needless zeros."""
    return f"{value.normalize():f}"


def _said(name: str, value: Cell) -> str | int:
    if value is None:
        return "unknown" if name == "cost" else ""
    return number(value) if isinstance(value, Decimal) else value


def _plain(value: Cell) -> str | int | None:
    if isinstance(value, Decimal):
        return number(value)
    return scrub(value) if isinstance(value, str) else value


def _harmless(cell: str | int) -> str | int:
    """Keep a spreadsheet from computing what is text: https://owasp.org/www-community/attacks/CSV_Injection ."""
    if not isinstance(cell, str):
        return cell
    text = scrub(cell)
    return f"'{text}" if cell.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text


def _literal(cell: str | int) -> str:
    return _MARKS.sub(r"\\\1", html.escape(scrub(str(cell)), quote=False))
