"""The big job: one manifest as many runs, on the workers of a pool, until every row is settled.

Where it stands is read from the journal that all runs share, never from Prefect's database. Starting it again goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from prefect import flow
from prefect.artifacts import acreate_progress_artifact, acreate_table_artifact, aupdate_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Crashed, Failed

from flows.artifacts import plain_rows
from wanbatch import logs
from wanbatch.errors import UsageError
from wanbatch.journal import Journal
from wanbatch.options import RunOptions
from wanbatch.settings import find_service
from wanbatch.sharding import LEFT, Account, count_rows, shards_of, standings

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import State

_LOOK_EVERY_S = 5.0
_SHOW_EVERY_S = 15.0
_SILENT_S = 45.0
"""How long after its last sign of life in the journal a run that Prefect takes for running is given up."""
_SLOW_START_S = 600.0
"""How long a run may check its manifest before it shows the first."""

_log = logging.getLogger("wanbatch.flows")
_T = TypeVar("_T")


class _Read(Protocol):
    async def __call__(self, question: Callable[[], _T]) -> _T: ...


@dataclass(slots=True)
class Shard:
    """One part of the manifest on one account, and the flow run that is at it."""

    options: RunOptions
    flow_run: UUID | None = None
    tries: int = 0
    silent_after: float = 0.0
    ended: str | None = None
    """How its last flow run ended, once it is over."""

    @property
    def name(self) -> tuple[str, str]:
        """The service and the rows, as the journal has them."""
        return find_service(self.options.service).name, self.options.shard


@flow(name="migrate", flow_run_name="migrate {options.manifest}", persist_result=False)
async def migrate(
    options: RunOptions,
    accounts: list[Account] | None = None,
    shards: int = 1,
    deployment: str = "edit-videos/shard",
    tries: int = 5,
) -> State[Any]:
    """Edit the videos of a manifest as runs of a deployment: so many shards for each of the accounts.

    A run that crashes, or whose machine is lost, is started again, up to `tries` times. Raises `UsageError`.
    """
    logs.guard()
    rows = await asyncio.to_thread(count_rows, options, accounts or ())
    plan = [Shard(each) for each in shards_of(options, accounts or (), rows=rows, shards=shards)]
    async with _reading(options.journal_url) as (journal, read), get_client() as client:
        async with _shown(client, options, rows, lambda: read(partial(_sums, journal, options.manifest))):
            while going := [shard for shard in plan if shard.ended is None]:
                await _look_after(client, going, await read(journal.at_work), deployment, tries)
                await asyncio.sleep(_LOOK_EVERY_S)
        counts = await read(partial(standings, options, journal))
    return _verdict(counts, plan)


@asynccontextmanager
async def _reading(url: str) -> AsyncIterator[tuple[Journal, _Read]]:
    """Open the journal, to be read one question after another."""
    turn = asyncio.Lock()

    async def read(question: Callable[[], _T]) -> _T:
        async with turn:
            return await asyncio.to_thread(question)

    journal = await asyncio.to_thread(Journal.open, url)
    try:
        yield journal, read
    finally:
        async with turn:
            journal.close()


async def _look_after(
    client: PrefectClient, going: Sequence[Shard], at_work: set[tuple[str, str]], deployment: str, tries: int
) -> None:
    """Start the shards that nobody is at, and see how the others are."""
    for shard in going:
        if shard.flow_run is not None:
            await _look(client, shard, alive=shard.name in at_work, tries=tries)
        elif shard.name not in at_work:  # or one of an earlier migration is still at it
            await _start(shard, deployment)


async def _start(shard: Shard, deployment: str) -> None:
    try:
        run = await arun_deployment(
            deployment,
            parameters={"options": shard.options.model_dump(mode="json", exclude_defaults=True)},
            timeout=0,
        )
    except ObjectNotFound:
        raise UsageError(
            f"there is no deployment {deployment}; `prefect deploy --all --prefect-file deployments/prefect.yaml` "
            "makes it"
        ) from None
    shard.flow_run = run.id
    shard.tries += 1
    shard.silent_after = 0.0


async def _look(client: PrefectClient, shard: Shard, *, alive: bool, tries: int) -> None:
    """See how a shard's flow run is, give it up when it is lost, and have another when it crashed."""
    assert shard.flow_run is not None  # only those that have one are looked at
    state = (await client.read_flow_run(shard.flow_run)).state
    if state is None:
        return
    now = time.monotonic()
    if alive:
        shard.silent_after = now + _SILENT_S
    elif not (state.is_running() or state.is_pending()):
        pass  # it waits for a worker, or is over
    elif not shard.silent_after:
        shard.silent_after = now + _SLOW_START_S
    elif now > shard.silent_after:
        gone: State[Any] = Crashed(message="the journal has no sign of life of it any more")
        await client.set_flow_run_state(shard.flow_run, gone, force=True)
        state = gone
    if not state.is_final():
        return
    if state.is_crashed() and shard.tries < tries:
        _log.warning(
            "%s on %s: its run crashed or was lost, another takes it up", shard.name[1], shard.name[0]
        )
        shard.flow_run = None
    else:
        shard.ended = state.name if state.is_completed() else f"{state.name}: {state.message}"


def _verdict(counts: Counter[str], plan: Sequence[Shard]) -> State[Any]:
    told = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in sorted(counts.items()))
    wrong = sorted({shard.ended for shard in plan if shard.ended and shard.ended != "Completed"})
    if any(counts[name] for name in LEFT) or wrong:
        return Failed(message="; ".join([f"{told}: run it again to go on", *wrong]), data=dict(counts))
    return Completed(message=told, data=dict(counts))


def _sums(journal: Journal, manifest: str) -> tuple[int, list[dict[str, Any]]]:
    return journal.rows_settled(manifest), journal.tally(manifest)


@asynccontextmanager
async def _shown(
    client: PrefectClient,
    options: RunOptions,
    rows: int,
    sums: Callable[[], Awaitable[tuple[int, list[dict[str, Any]]]]],
) -> AsyncIterator[None]:
    """Keep one progress bar and one table of totals beside the run, over all its shards."""
    bar = await acreate_progress_artifact(0.0, key="migration-progress")
    table = await acreate_table_artifact([], key="migration-totals", description=options.manifest)

    async def show() -> None:
        try:
            settled, totals = await sums()
            told = f"{settled:,} of {rows:,} rows settled"
            await aupdate_progress_artifact(bar, round(100 * settled / max(rows, 1), 2), description=told)
            await client.update_artifact(table, ArtifactUpdate(data=json.dumps(plain_rows(totals))))
        except Exception as error:  # noqa: BLE001 - a view that can't be updated is no reason to stop
            _log.info("Prefect could not be shown the progress (%s)", type(error).__name__)

    async def keep_showing() -> None:
        while True:
            await show()
            await asyncio.sleep(_SHOW_EVERY_S)

    showing = asyncio.create_task(keep_showing())
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
        await show()
