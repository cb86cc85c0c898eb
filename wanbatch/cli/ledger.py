"""`wanbatch ledger`: the upkeep of the Parquet files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from wanbatch.errors import ExitCode

app = typer.Typer(
    name="ledger", help="Look after the ledger's Parquet files.", no_args_is_help=True, add_completion=False
)

_Where = Annotated[
    str, typer.Option("--ledger", help="Folder or URL of the Parquet ledger.", metavar="DIR_OR_URL")
]


@app.command()
def compact(ledger: _Where = "ledger") -> None:
    """Merge the files of each day into one; safe at any time, also while a run writes."""
    from wanbatch.cli import display
    from wanbatch.ledger import Ledger

    done = Ledger(ledger).compact()
    display.out.print(
        f"merged {display.number(done.days, 'day')}: "
        f"{display.number(done.files_before, 'file')} became {done.files_after:,}"
        if done.days
        else f"nothing to merge: {display.number(done.files_after, 'file')}"
    )
    sys.exit(ExitCode.OK)


@app.command()
def verify(
    ledger: _Where = "ledger",
    outputs: Annotated[
        bool, typer.Option("--outputs", help="Also see that every video of the ledger is there.")
    ] = False,
) -> None:
    """Check files, duplicates and sums; a line for each finding, exit code 3 when there are any."""
    from wanbatch.cli import display
    from wanbatch.ledger import Ledger

    found = 0
    for finding in Ledger(ledger).verify(exists=_exists if outputs else None):
        display.out.print(display.cell(finding))
        found += 1
    display.err.print(f"{found:,} findings" if found else "the books are in order")
    sys.exit(ExitCode.SOME_FAILED if found else ExitCode.OK)


def _exists(output: str) -> bool:
    """Look where the ledger says: a path, or anything that fsspec reads."""
    if "://" not in output:
        return Path(output).is_file()
    import fsspec

    try:
        return bool(fsspec.open(output).fs.exists(output))
    except (OSError, ValueError, ImportError):
        return False
