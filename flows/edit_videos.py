"""The main job: read a manifest, edit every video in it once, and keep the books."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.states import Failed

from flows.artifacts import live_progress, show, tell_prefect
from flows.keys import key_of
from flows.slots import open_shared
from tasks.download import download_result
from tasks.poll import await_edit
from tasks.record import record_outcome
from tasks.submit import submit_edit
from wanbatch import logs, walk
from wanbatch.errors import ManifestError, WanbatchError
from wanbatch.options import RunOptions
from wanbatch.progress import notify
from wanbatch.redact import scrub
from wanbatch.summary import Summary, summarise
from wanbatch.telemetry.exporting import exporting

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

_log = logging.getLogger("wanbatch.flows")

_PROBLEMS_SHOWN = 10


@flow(name="edit-videos", flow_run_name="edit {options.shard}", persist_result=False, log_prints=False)
async def edit_videos(options: RunOptions) -> Summary | State[Any]:
    """Edit the videos of a manifest, and write outcomes, usage and cost into a Parquet ledger.

    Running it again continues: what is settled is skipped, what is open is taken up, nothing is paid twice.
    """
    logs.guard()
    try:
        return await _edited(options)
    except Exception as problem:  # noqa: BLE001 - Prefect would keep its words, and what they quote, as they are
        if not isinstance(problem, WanbatchError):
            _log.exception("a fault of wanbatch; please report it")
        return Failed(message=_words(problem), data=problem)


def _words(problem: Exception) -> str:
    lines = [f"{type(problem).__name__}: {problem}"]
    if isinstance(problem, ManifestError):
        lines += map(str, problem.problems[:_PROBLEMS_SHOWN])
    return scrub("; ".join(lines))


async def _edited(options: RunOptions) -> Summary:
    notify.set(tell_prefect)
    async with exporting(), key_of(options), open_shared(options) as session:
        steps = walk.Steps(submit_edit, await_edit, download_result, record_outcome)
        async with live_progress(session):
            await walk.edit_videos(session, steps)
        summary = await summarise(session)
    await show(summary)
    return summary
