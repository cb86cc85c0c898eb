"""`wanbatch status`, `resolve` and `cancel`: what people ask of the journal, and tell it."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections import Counter
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from wanbatch.cli import display
from wanbatch.errors import ExitCode, UsageError
from wanbatch.journal import Journal, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wanbatch.journal import Attempt


@contextmanager
def opened(url: str) -> Iterator[Journal]:
    """Open a journal that exists; raises `UsageError` where there is none."""
    if "://" not in url and not Path(url).exists():
        raise UsageError(
            f"{url}: no journal here; name the right --ledger or --journal, or run a manifest first"
        )
    journal = Journal.open(url)
    try:
        yield journal
    finally:
        journal.close()


def show_status(url: str, *, as_json: bool) -> ExitCode:
    """Show what is open and what is spent; gives the exit code."""
    with opened(url) as journal:
        going = journal.open_attempts()
        spent = journal.spent_by_currency()
    states = Counter(str(attempt.state) for attempt in going)
    reserved: Counter[str] = Counter()
    for attempt in going:
        if attempt.currency and attempt.reserved is not None:
            reserved[attempt.currency] += attempt.reserved  # type: ignore[assignment] # a Counter of Decimals
    if as_json:
        told = {
            "open": dict(states),
            "spent": {name: f"{amount:f}" for name, amount in spent.items()},
            "reserved": {name: f"{Decimal(amount):f}" for name, amount in reserved.items()},
        }
        display.out.print_json(json.dumps(told))
    else:
        words = ", ".join(f"{number:,} {state.replace('_', ' ')}" for state, number in sorted(states.items()))
        display.out.print(f"open      {words or 'nothing'}")
        for currency in sorted({*spent, *reserved} - {""}):
            spent_here = display.money(spent.get(currency, Decimal(0)), currency)
            display.out.print(
                f"spent     {spent_here}, reserved {display.money(Decimal(reserved[currency]), currency)}"
            )
        if going:
            oldest = min(attempt.intended_at for attempt in going)
            display.out.print(
                f"oldest    {oldest:%Y-%m-%d %H:%M:%S} UTC; `wanbatch run` takes up what is open"
            )
        if states["parked"]:
            display.out.print(f"parked    {states['parked']}: a person decides, see `wanbatch resolve`")
    return ExitCode.PARKED if states["parked"] else ExitCode.OK


def list_parked(url: str, *, as_json: bool) -> ExitCode:
    """Show parked attempts with all that a person needs; gives the exit code."""
    with opened(url) as journal:
        parked = [(attempt, journal.events(attempt.key)) for attempt in journal.open_attempts(State.PARKED)]
    if as_json:
        display.out.print_json(json.dumps([_facts(attempt) for attempt, _ in parked]))
    elif not parked:
        display.out.print("nothing is parked")
    for attempt, events in [] if as_json else parked:
        display.out.print(f"[bold]{escape(attempt.item.name)}[/bold]")
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, value in _facts(attempt).items():
            table.add_row(f"  {name.replace('_', ' ')}", display.cell(value))
        for at, number, what, who, note in events:
            table.add_row(
                "  journal", display.cell(f"{at:%Y-%m-%d %H:%M:%S} attempt {number} {what} ({who}): {note}")
            )
        display.out.print(table)
    if parked and not as_json:
        display.out.print(
            "Look for the task in the provider's console around that time, then say\n"
            "  wanbatch resolve ITEM --adopt TASK_ID     it is this item's: its result is fetched, its cost booked\n"
            "  wanbatch resolve ITEM --not-created       no task was made: the item may be sent again",
            markup=False,
        )
    return ExitCode.PARKED if parked else ExitCode.OK


def _facts(attempt: Attempt) -> dict[str, str | None]:
    request = attempt.item.request
    return {
        "key": attempt.key,
        "item": attempt.item.name,
        "attempt": str(attempt.number),
        "service": attempt.service,
        "manifest_row": f"{attempt.manifest} row {attempt.row}",
        "video": request.video,
        "prompt": request.prompt,
        "resolution": str(request.resolution),
        "input_seconds": None if attempt.input_s is None else str(attempt.input_s),
        "sent_at": None if attempt.sent_at is None else f"{attempt.sent_at:%Y-%m-%d %H:%M:%S} UTC",
        "submit_request_id": attempt.submit_request_id,
        "reserved": display.money(attempt.reserved, attempt.currency),
        "why": attempt.message,
    }


def settle_parked(url: str, name: str, *, adopt: str | None, ledger: str) -> ExitCode:
    """Settle a parked attempt by a person's word; gives the exit code."""
    from wanbatch.resolving import adopt_task, declare_not_created

    with opened(url) as journal:
        attempt = _named(journal, name)
        who = getpass.getuser()
        if adopt:
            adopt_task(journal, attempt, adopt, who=who)
            display.out.print(
                f"{escape(attempt.item.name)} is task {escape(adopt)}; `wanbatch run` fetches it"
            )
        else:
            declare_not_created(journal, ledger, attempt, who=who)
            display.out.print(f"{escape(attempt.item.name)} was not made; `wanbatch run` sends it again")
    return ExitCode.OK


def _named(journal: Journal, name: str) -> Attempt:
    found = [
        attempt
        for attempt in journal.open_attempts(State.PARKED)
        if name == attempt.item.id or attempt.key.startswith(name)
    ]
    if len(found) != 1:
        raise UsageError(
            f"{name!r} names {len(found) or 'no'} parked attempts; `wanbatch resolve` lists them"
        )
    return found[0]


def cancel_pending(url: str, service: str | None, key_variable: str) -> ExitCode:
    """Cancel what still waits at the service; gives the exit code."""
    from wanbatch.resolving import cancel_waiting

    with opened(url) as journal:
        cancelled, running = asyncio.run(cancel_waiting(journal, service, key_variable))
    display.out.print(f"{cancelled} cancelled; {running} run already or have ended and can't be stopped")
    if cancelled:
        display.out.print("`wanbatch run` records them")
    return ExitCode.OK


def restore(url: str, ledger: str) -> ExitCode:
    """Rebuild a lost journal; gives the exit code."""
    from wanbatch.resolving import restore_journal

    count, until = restore_journal(url, ledger)
    display.out.print(f"{count:,} settled attempts are back, the last of {until:%Y-%m-%d %H:%M:%S} UTC")
    display.out.print(
        "What was open when the journal was lost is not in the ledger. Before you run again, look at the tasks of "
        "the last 24 hours in the provider's console: an edit that is there and not in the ledger would be paid twice.",
        style="yellow",
    )
    return ExitCode.OK
