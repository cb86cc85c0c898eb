"""The account's slots as a Prefect global concurrency limit, so that several runs never hold more than it has.

Prefect gives a slot out on a lease, which this renews: the slots of a machine that died come back when theirs end.
Asking costs the server some 100 ms of CPU, so a slot stays with the run until the run has no use for it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextlib import ExitStack, asynccontextmanager, suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from wanbatch.errors import UsageError
from wanbatch.opening import open_session
from wanbatch.pace import delay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from prefect.client.orchestration import PrefectClient

    from wanbatch.options import RunOptions
    from wanbatch.session import Session

LEASE_S = 90.0
"""How long a slot outlives the last sign of life of its holder; Prefect takes a minute at least."""
_ASK_WITHIN_S = 10.0
"""The longest time between two questions whether a slot has become free."""
_FAREWELL_S = 15.0
_LOCKED = 423
_GONE = 410

_T = TypeVar("_T")
_log = logging.getLogger("wanbatch.flows")


@asynccontextmanager
async def open_shared(options: RunOptions, *, lease_s: float = LEASE_S) -> AsyncIterator[Session]:
    """Open a run that takes its slots from `options.shared_slots`, when that names a limit.

    Raises `UsageError` when there is no such limit, and whatever `open_session` does.
    """
    if options.shared_slots is None:
        async with open_session(options) as session:
            yield session
        return
    async with (
        holding(options.shared_slots, lease_s=lease_s) as slots,
        open_session(options, shared=slots) as session,
    ):
        slots.belong_to(session)
        yield session


@asynccontextmanager
async def holding(name: str, *, lease_s: float = LEASE_S) -> AsyncIterator[AccountSlots]:
    """Hold slots of a limit, and return what is still held at the end; raises `UsageError`."""
    async with get_client() as client:
        await _look_at(name, client)
        slots = AccountSlots(name, client, lease_s=lease_s)
        renewing = slots.start()
        try:
            yield slots
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await slots.aclose()


async def _look_at(name: str, client: PrefectClient) -> None:
    try:
        limit = await client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        raise UsageError(
            f"--shared-slots {name}: Prefect has no such limit; make it with `prefect gcl create {name} --limit 7` "
            "(5 slots and the 2 that are queued ahead)"
        ) from None
    except httpx.HTTPError as error:
        raise UsageError(
            f"--shared-slots {name}: the Prefect server at {client.api_url} does not answer ({type(error).__name__})"
        ) from None
    if not limit.active or limit.slot_decay_per_second:
        raise UsageError(
            f"--shared-slots {name}: the limit is switched off or its slots come back by themselves; "
            f"`prefect gcl update {name} --enable --slot-decay-per-second 0`"
        )


class AccountSlots:
    """Slots of one limit that this process holds; see `wanbatch.window.SharedSlots`."""

    def __init__(self, name: str, client: PrefectClient, *, lease_s: float) -> None:
        self._name = name
        self._client = client
        self._lease_s = lease_s
        self._leases: set[UUID] = set()
        self._unleased = 0
        """Slots in use whose lease ended, since the server did not hear from us in time."""
        self._asking = 0
        self._handed = 0
        """Slots that one of ours gave back for another of ours that asks."""
        self._news = asyncio.Event()
        self._session: Session | None = None
        self._silent = False
        self._errands: set[asyncio.Task[Any]] = set()
        self._unretried = copy_context()
        self._settings = ExitStack()
        self._unretried.run(self._settings.enter_context, temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}))

    @property
    def held(self) -> int:
        """How many slots this process holds."""
        return len(self._leases)

    def belong_to(self, session: Session) -> None:
        """Stop asking when that run stops, and hand over within its fair share."""
        self._session = session

    async def take(self) -> None:
        """Wait for a slot; raises `LeftOpen` when the run stops meanwhile."""
        self._asking += 1
        try:
            for tries in itertools.count(1):
                if self._handed:
                    self._handed -= 1
                    return
                if await self._asked():
                    return
                await self._wait(delay(tries, wait_max_s=_ASK_WITHIN_S))
        finally:
            self._asking -= 1
            while self._handed > self._asking:
                self._handed -= 1
                self._give_up()

    def give_back(self) -> None:
        """Return a slot, without waiting."""
        if self._asking > self._handed and self._fair():
            self._handed += 1
            self._news.set()
        else:
            self._give_up()

    def _give_up(self) -> None:
        if self._unleased:
            self._unleased -= 1
        elif self._leases:
            self._run(self._release(self._leases.pop()))

    def _fair(self) -> bool:
        """Whether we hold no more than our part of the account's places."""
        if self._session is None:
            return True
        window, limits = self._session.window, self._session.service.limits
        return window.taken <= -(-limits.window // window.runs)

    async def _wait(self, seconds: float) -> None:
        """Wait for a while, for one of ours, or for the end of the run."""
        pause = self._session.pause(seconds) if self._session else asyncio.sleep(seconds)
        self._news.clear()
        waits = {asyncio.ensure_future(pause), asyncio.ensure_future(self._news.wait())}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in done:
                wait.result()
        finally:
            for wait in waits:
                wait.cancel()

    async def _asked(self) -> bool:
        """Ask the server for a slot; False when there is none, or no answer."""
        asking = self._run(self._acquire())
        try:
            lease = await asyncio.shield(asking)
        except asyncio.CancelledError:  # what is granted all the same goes back
            self._run(self._undo(asking))
            raise
        if lease is None:
            return False
        self._leases.add(lease)
        return True

    async def _acquire(self) -> UUID | None:
        try:
            answer = await self._client.increment_concurrency_slots_with_lease(
                names=[self._name], slots=1, mode="concurrency", lease_duration=self._lease_s
            )
            self._heard()
            return UUID(answer.json()["lease_id"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            if _status(error) == _LOCKED:
                self._heard()
            else:
                self._unheard(error)
            return None

    async def _undo(self, asking: asyncio.Task[UUID | None]) -> None:
        if lease := await asking:
            await self._release(lease)

    async def _release(self, lease: UUID) -> None:
        try:
            await self._client.release_concurrency_slots_with_lease(lease_id=lease)
        except httpx.HTTPError as error:  # it comes back when its lease ends
            self._unheard(error)

    def start(self) -> asyncio.Task[None]:
        """Begin to renew the leases."""
        return self._run(self._renew())

    async def _renew(self) -> None:
        """Renew the leases for ever, three times in their time, and ask anew for what was lost."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            for lease in tuple(self._leases):
                if lease in self._leases:  # it may be given back while others are renewed
                    await self._renewed(lease)
            while self._unleased and await self._asked():
                self._unleased = max(0, self._unleased - 1)

    async def _renewed(self, lease: UUID) -> None:
        try:
            await self._client.renew_concurrency_lease(lease_id=lease, lease_duration=self._lease_s)
            self._heard()
        except httpx.HTTPError as error:
            if _status(error) != _GONE:
                self._unheard(error)
            elif lease in self._leases:
                self._leases.discard(lease)
                self._unleased += 1
                _log.warning("a slot of %s was taken from this run; the edit in it goes on", self._name)

    def _heard(self) -> None:
        if self._silent:
            _log.warning("the Prefect server answers again; slots of %s are taken", self._name)
        self._silent = False

    def _unheard(self, error: Exception) -> None:
        if not self._silent:
            _log.warning(
                "the Prefect server does not give slots of %s (%s): nothing new is submitted until it does, "
                "edits in flight go on",
                self._name,
                type(error).__name__,
            )
        self._silent = True

    def _run(self, errand: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Start a call that is tried twice, for connections that the server has closed; Prefect would for a minute."""
        task = asyncio.create_task(errand, context=self._unretried)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        return task

    async def aclose(self) -> None:
        """Return every slot, as far as the server answers soon."""
        for lease in self._leases:
            self._run(self._release(lease))
        self._leases = set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await asyncio.gather(*self._errands, return_exceptions=True)
        self._unretried.run(self._settings.close)


def _status(error: Exception) -> int | None:
    return error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None
