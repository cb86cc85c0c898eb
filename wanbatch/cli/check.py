"""`wanbatch check`: every problem of every row."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from wanbatch.cli import display
from wanbatch.errors import ExitCode
from wanbatch.manifest import check_manifest
from wanbatch.naming import NameTemplate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wanbatch.errors import Problem

_TEMPORARY_STORE = (
    "local files would go through the service's temporary store: 48 hours, 100 uploads a second, not meant for "
    "production; `wanbatch run --stage s3://bucket/prefix` puts them into a bucket of yours"
)


def run_check(manifest: Path, *, probe: bool, name: str | None, as_json: bool) -> ExitCode:
    """Show the problems; gives the exit code."""
    template = NameTemplate.parse(name) if name else None
    report = check_manifest(manifest)
    problems, warnings = list(report.problems), list(report.warnings)
    if template and not problems:
        from wanbatch.collisions import name_problems

        problems += name_problems(manifest, template)
    if probe and not problems:
        from wanbatch.probing import probe_manifest

        problems += probe_manifest(manifest)
    errors = report.problem_count + len(problems) - len(report.problems)
    notes = [_TEMPORARY_STORE] if report.local_files else []
    if hidden := errors + report.warning_count - len(problems) - len(warnings):
        notes.append(f"{hidden:,} more are not shown: mend these first")
    if as_json:
        told = [asdict(problem) for problem in (*problems, *warnings)]
        told_all = {"rows": report.rows, "errors": errors, "problems": told, "notes": notes}
        display.out.print_json(json.dumps(told_all))
    else:
        _show([*problems, *warnings])
        rows = display.number(report.rows, "row")
        display.out.print(
            f"{rows}: {display.number(errors, 'problem')}, {display.number(report.warning_count, 'warning')}"
            if errors or warnings
            else f"{rows}: nothing wrong"
        )
        for note in notes:
            display.out.print(Text(note))
    return ExitCode.USAGE if errors else ExitCode.OK


def _show(problems: Sequence[Problem]) -> None:
    if not problems:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "row", "column", "value", "rule", "how to mend it"):
        table.add_column(name, overflow="fold")
    for problem in problems:
        row = str(problem.row) if problem.row else ""
        texts = (str(problem.severity), row, problem.column, problem.value, problem.rule, problem.mend)
        table.add_row(*(display.cell(text) for text in texts))
    display.out.print(table)
