"""The emulated account in the run's own process and time, behind a network that fails now and then."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from wanbatch.emulator.app import create_app
from wanbatch.emulator.clock import to_ms

if TYPE_CHECKING:
    from tests.simulation.fast_time import FastClock
    from wanbatch.emulator.config import EmulatorConfig
    from wanbatch.emulator.world import World

ADDRESS = "http://emulator.example/api/v1"
_WAY_S = 0.08
"""How long a request travels, and its answer."""


@dataclass(frozen=True, slots=True)
class Span:
    """Some hours, counted from the beginning of the story."""

    begins: float
    ends: float

    def holds(self, hour: float) -> bool:
        """Say whether an hour is one of them."""
        return self.begins <= hour < self.ends


NEVER = Span(0.0, 0.0)


class Service(httpx.AsyncBaseTransport):
    """One account for a whole story, as the transport of every process of it."""

    def __init__(
        self,
        config: EmulatorConfig,
        clock: FastClock,
        *,
        outage: Span = NEVER,
        no_results: Span = NEVER,
        forgetful: Span = NEVER,
    ) -> None:
        app = create_app(config)
        self.world: World = app.state.world
        self.requests: Counter[str] = Counter()
        self.in_flight: list[tuple[float, int]] = []
        """After each submit: the hour, and how many edits waited or ran at the account."""
        self._asgi = httpx.ASGITransport(app)
        self._clock = clock
        self._outage = outage
        self._no_results = no_results
        self._forgetful = forgetful
        """When a query is answered as if there were no such task."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Serve one request; raises what httpx raises when a connection can't be made, or breaks."""
        await asyncio.sleep(_WAY_S)
        asked, hour = _asked(request), self._clock.monotonic() / 3600
        if self._outage.holds(hour) or (asked == "result" and self._no_results.holds(hour)):
            raise httpx.ConnectError("nobody is there", request=request)
        self.catch_up()
        self.requests[asked] += 1
        try:
            answer = await self._asgi.handle_async_request(request)
        finally:
            if asked == "submit":
                state = self.world.state
                self.in_flight.append((hour, state.running() + len(state._queue)))
        await asyncio.sleep(_WAY_S)
        if asked == "query" and self._forgetful.holds(hour):
            told = {"task_id": request.url.path.rpartition("/")[2], "task_status": "UNKNOWN"}
            return httpx.Response(200, json={"request_id": "r", "output": told})
        return answer

    def catch_up(self) -> None:
        """Bring the account's clock to the story's time."""
        clock = self.world.clock
        clock.advance((to_ms(self._clock.now()) - clock()) / 1000)


def _asked(request: httpx.Request) -> str:
    """Name what a request is for: `submit`, `list`, `query` or `result`."""
    path = request.url.path.rstrip("/")
    if not path.startswith("/api/"):
        return "result"
    if request.method == "POST":
        return "submit"
    return "list" if path.endswith("/tasks") else "query"
