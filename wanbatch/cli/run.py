"""`wanbatch run`: the flow, from the command line."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wanbatch.cli import display
from wanbatch.cli.logs import are_json, show_logs
from wanbatch.errors import Interrupted
from wanbatch.settings import serve_metrics

if TYPE_CHECKING:
    from wanbatch.errors import ExitCode
    from wanbatch.options import RunOptions
    from wanbatch.summary import Summary

_log = logging.getLogger(__name__)

_PREFECT_S = 20.0


def run_flow(
    options: RunOptions,
    *,
    as_json: bool,
    log_format: str | None = None,
    log_level: str | None = None,
    metrics_port: int | None = None,
) -> ExitCode:
    """Run the flow and show how it went; gives the exit code."""
    if metrics_port is not None:
        serve_metrics(metrics_port)
    show_logs(log_format, log_level, quiet=as_json)
    ran = run_quietly(options, quiet=as_json)
    if as_json:
        display.out.print_json(json.dumps(plain(ran.summary)))
    else:
        display.print_summary(ran.summary)
    return ran.exit_code()


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished run, and whether Prefect's server took note of its end."""

    summary: Summary
    noted: bool

    def exit_code(self) -> ExitCode:
        """Give the exit code; ends the process itself when Prefect would go on trying to reach its server."""
        if not self.noted:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.summary.exit_code)
        return self.summary.exit_code


def run_quietly(options: RunOptions, *, quiet: bool = False) -> Ran:
    """Find what is wrong before Prefect starts, then run the flow under a progress line."""
    from wanbatch.opening import preflight
    from wanbatch.settings import exporters, prefect_server_configured, quiet_prefect

    quiet = quiet or are_json()
    try:
        exporters()
        asyncio.run(preflight(options))
        quiet_prefect()
        if not quiet and not prefect_server_configured():
            display.err.print(
                "starting a temporary Prefect server (`prefect server start` once saves these seconds)"
            )
        from flows.edit_videos import edit_videos
        from flows.server import reach_server

        if prefect_server_configured():
            asyncio.run(reach_server())
        with display.live_progress(quiet=quiet):
            return _run(edit_videos, options)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise Interrupted(
            "stopped at once; the journal has what was in flight: run it again to go on"
        ) from None


def _run(flow: Any, options: RunOptions) -> Ran:
    runner = asyncio.Runner()
    ran = runner.run(_flow(flow, options))
    if ran.noted:  # otherwise closing would wait for Prefect, which waits for its server
        runner.close()
    return ran


async def _flow(flow: Any, options: RunOptions) -> Ran:
    """Run the flow. When its books are closed, Prefect's server has a while to take note, and no more."""
    from wanbatch.summary import tell

    closed: asyncio.Future[Summary] = asyncio.get_running_loop().create_future()
    tell.set(closed.set_result)
    running = asyncio.ensure_future(flow(options, return_state=True))
    await asyncio.wait({running, closed}, return_when=asyncio.FIRST_COMPLETED)
    if closed.done():
        await asyncio.wait({running}, timeout=_PREFECT_S)
        noted = running.done() and running.exception() is None
        if not noted:
            _log.warning("Prefect's server could not be told how the run ended")
        return Ran(closed.result(), noted)
    result: object = await running.result().aresult(raise_on_failure=False)
    raise result if isinstance(result, BaseException) else AssertionError(f"no summary: {result}")


def plain(summary: Summary) -> dict[str, Any]:
    """Give a summary as JSON values; money and seconds as strings, which keep every digit."""
    return {
        "run_id": summary.run_id,
        "exit_code": int(summary.exit_code),
        "reason": summary.reason,
        "rows": summary.rows,
        "counts": dict(summary.counts),
        "currency": summary.currency,
        "billed_s": f"{summary.billed_s:f}",
        "cost": None if summary.cost is None else f"{summary.cost:f}",
        "unknown_cost": summary.unknown_cost,
        "lost": summary.lost,
        "parked": [attempt.item.name for attempt in summary.parked],
        "ledger": summary.ledger,
        "journal": summary.journal,
        "videos": summary.videos,
    }
