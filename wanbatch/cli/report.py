"""`wanbatch report`: what was spent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from wanbatch.cli import display
from wanbatch.errors import ExitCode
from wanbatch.ledger import Ledger

if TYPE_CHECKING:
    from pathlib import Path


def show_report(folder: Path, *, run_id: str | None, as_json: bool) -> ExitCode:
    """Show the totals of a ledger, or of one run; gives the exit code."""
    rows = Ledger(folder).totals_by(run_id=run_id)
    if as_json:
        display.out.print_json(json.dumps(rows, default=str))
    else:
        display.print_totals(rows)
    return ExitCode.OK
