"""The daily cost report: one page for people, FOCUS rows for finance."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prefect import flow
from prefect.artifacts import acreate_table_artifact

from flows.artifacts import plain_rows
from wanbatch.ledger import Ledger, add_up
from wanbatch.report.focus import write_focus
from wanbatch.report.html import write_page


@flow(name="cost-report", persist_result=False)
async def cost_report(ledger: str = "ledger", folder: str = "reports", stills: int = 200) -> list[str]:
    """Write the ledger as `cost.html` and `focus.csv` into a folder; gives their paths."""
    rows = await asyncio.to_thread(lambda: Ledger(ledger).read_attempts().to_pylist())
    page, focus = Path(folder) / "cost.html", Path(folder) / "focus.csv"
    page.parent.mkdir(parents=True, exist_ok=True)
    await asyncio.to_thread(write_page, rows, page, stills=stills)
    await asyncio.to_thread(write_focus, rows, focus)
    totals = [
        {name: value for name, value in total.items() if name != "run_id"} for total in add_up("", rows)
    ]
    await acreate_table_artifact(plain_rows(totals), key="cost", description=f"All of {ledger}")
    return [str(page), str(focus)]
