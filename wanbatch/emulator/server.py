"""The emulator on a loopback port: in the running loop, in a thread of its own, or for good."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from wanbatch.emulator.api import BASE
from wanbatch.emulator.app import create_app
from wanbatch.emulator.clock import Clock
from wanbatch.emulator.config import EmulatorConfig
from wanbatch.emulator.faults import Faults
from wanbatch.emulator.spoil import transport_scope
from wanbatch.emulator.state import State
from wanbatch.emulator.world import World

_POLL_S = 0.005
_STOP_S = 5


@dataclass(frozen=True, slots=True)
class Emulator:
    """A served emulator: its addresses, and the world behind them."""

    origin: str
    """`http://127.0.0.1:PORT`"""
    world: World

    @property
    def url(self) -> str:
        """The base address for clients, ending in `/api/v1`."""
        return f"{self.origin}{BASE}"

    @property
    def state(self) -> State:
        """The account's tasks and bill; may be asked from any thread."""
        return self.world.state

    @property
    def clock(self) -> Clock:
        """The emulator's time; may be advanced from any thread."""
        return self.world.clock

    @property
    def faults(self) -> Faults:
        """The fault rules; may be replaced from any thread."""
        return self.world.faults


@contextlib.asynccontextmanager
async def running(config: EmulatorConfig | None = None, *, port: int = 0) -> AsyncIterator[Emulator]:
    """Serve in the running loop while the block runs; port 0 takes a free one."""
    with _listening("127.0.0.1", port) as listener:
        server, emulator = _build(config or EmulatorConfig(), listener)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started and not serving.done():  # noqa: ASYNC110  uvicorn has no such event
                await asyncio.sleep(_POLL_S)
            yield emulator
        finally:
            server.should_exit = True
            await serving


@contextlib.contextmanager
def in_thread(config: EmulatorConfig | None = None, *, port: int = 0) -> Iterator[Emulator]:
    """Serve in a thread with a loop of its own while the block runs: no busy client can starve it."""
    with _listening("127.0.0.1", port) as listener:
        server, emulator = _build(config or EmulatorConfig(), listener)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="emulator", daemon=True
        )
        thread.start()
        try:
            while not server.started and thread.is_alive():
                thread.join(_POLL_S)
            yield emulator
        finally:
            server.should_exit = True
            thread.join()


def serve(config: EmulatorConfig | None = None, host: str = "127.0.0.1", port: int = 8765) -> None:
    """Serve until interrupted, after one line that says where and with which key.

    Raises OSError when the port is taken.
    """
    config = config or EmulatorConfig()
    with _listening(host, port) as listener:
        server, emulator = _build(config, listener, server_class=uvicorn.Server)
        print(f"{emulator.url}  (DASHSCOPE_HTTP_BASE_URL; DASHSCOPE_API_KEY={config.key})", flush=True)  # noqa: T201  a command's output
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


class _Guest(uvicorn.Server):
    """A server inside somebody else's process: signals are the host's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """Shows the app its connection, for faults that break it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its parent
        super().connection_made(transport)
        app = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            await app(transport_scope(scope, transport), receive, send)

        self.app = with_transport


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    with socket.create_server((host, port), backlog=1024) as listener:
        # asyncio sets this only on sockets that name their protocol; without it every reply waits 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _build(
    config: EmulatorConfig, listener: socket.socket, server_class: type[uvicorn.Server] = _Guest
) -> tuple[uvicorn.Server, Emulator]:
    app = create_app(config)
    settings: dict[str, Any] = {
        "http": _Protocol,
        "ws": "none",
        "lifespan": "on",
        "date_header": False,
        "server_header": False,
        "proxy_headers": False,
        "access_log": False,
        "log_config": None,
        "timeout_graceful_shutdown": _STOP_S,
        "timeout_keep_alive": 60,
    }
    host, port = listener.getsockname()[:2]
    emulator = Emulator(f"http://{host}:{port}", app.state.world)
    return server_class(uvicorn.Config(app, **settings)), emulator
