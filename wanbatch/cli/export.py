"""`wanbatch report --html` and `--format focus`: the ledger as files for people and tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from wanbatch.cli import display
from wanbatch.errors import ExitCode, LedgerError, UsageError
from wanbatch.ledger import Ledger

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow.compute as pc


def export_html(
    ledger: str, *, run_id: str | None, to: Path, stills: int, where: pc.Expression | None = None
) -> ExitCode:
    """Write the ledger, one run of it, or the rows of which `where` holds, as a page; gives the exit code."""
    from wanbatch.report.html import write_page

    write_page(_attempts(ledger, run_id, where), to, stills=stills)
    display.out.print(f"wrote {escape(str(to))}")
    return ExitCode.OK


def export_focus(
    ledger: str,
    *,
    run_id: str | None,
    to: Path | None,
    version: str,
    account: str | None,
    where: pc.Expression | None = None,
) -> ExitCode:
    """Write the ledger, one run of it, or the rows of which `where` holds, as FOCUS rows; gives the exit code."""
    from wanbatch.report.focus import FocusVersion, write_focus

    if to is None:
        raise UsageError("--format focus needs --out FILE.csv or FILE.parquet")
    if version not in set(FocusVersion):
        raise UsageError(f"--focus-version {version}: give one of {', '.join(FocusVersion)}")
    written = write_focus(
        _attempts(ledger, run_id, where), to, version=FocusVersion(version), account=account
    )
    display.out.print(f"wrote {display.number(written.rows, 'row')} to {escape(str(to))}")
    if written.unknown_cost:
        display.err.print(
            f"left out {display.number(written.unknown_cost, 'attempt')} of unknown cost: FOCUS has no such thing"
        )
    return ExitCode.OK


def _attempts(ledger: str, run_id: str | None, where: pc.Expression | None) -> list[dict[str, Any]]:
    attempts: list[dict[str, Any]] = Ledger(ledger).read_attempts(where=where).to_pylist()
    chosen = [row for row in attempts if run_id in {None, row["run_id"]}]
    if not chosen:
        raise LedgerError(f"{ledger}: no such attempts; ask for another run or period")
    return chosen
