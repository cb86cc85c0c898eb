"""The emulator's HTTP: the API's routes, and around them the date and the tolerance for slashes."""

import contextlib
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wanbatch.emulator.admin import admin_routes
from wanbatch.emulator.api import api_routes
from wanbatch.emulator.catalogue import Refusal
from wanbatch.emulator.clock import http_date
from wanbatch.emulator.config import EmulatorConfig
from wanbatch.emulator.objects import object_routes
from wanbatch.emulator.replies import error_reply
from wanbatch.emulator.state import new_id
from wanbatch.emulator.world import World


def create_app(config: EmulatorConfig | None = None) -> Starlette:
    """Build the emulator as an ASGI app; it needs no lifespan, and cleans up in one when it has it."""
    world = World(config or EmulatorConfig())

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await world.aclose()

    routes: list[BaseRoute] = [*api_routes(world), *object_routes(world), *admin_routes(world)]
    if world.config.media is not None:
        routes.append(Mount("/media", StaticFiles(directory=world.config.media)))
    app = Starlette(
        routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http_error, Refusal: _refused}
    )
    app.state.world = world
    app.router.redirect_slashes = False
    app.add_middleware(Manners, clock=world.clock)
    return app


class Manners:
    """Dates every reply by the emulator's clock and takes a trailing slash off the API's paths."""

    def __init__(self, app: ASGIApp, clock: Callable[[], int]) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith("/api/"):
            scope = {**scope, "path": scope["path"].rstrip("/")}

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", http_date(self._clock()).encode())]
            await send(message)

        await self._app(scope, receive, dated)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    missing = error.status_code == HTTPStatus.NOT_FOUND
    code = "NotFound" if missing else "InvalidParameter"
    return error_reply(Refusal(error.status_code, code, error.detail), new_id(), error.headers)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error_reply(error, new_id())
