"""Replies that go wrong on the wire: dropped, hung, cut, slow. Each is an ASGI response."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

import httpx
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

TRANSPORT: Final = "wanbatch.transport"
"""The scope extension under which the server shows the connection's transport."""


class Drop(Response):
    """Close the connection without a byte, or after the headers, or after part of the body."""

    def __init__(self, reply: Response | None = None, body_bytes: int = 0) -> None:
        super().__init__()
        self._reply = reply
        self._body_bytes = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what is to be sent, then hang up."""
        if self._reply is not None:
            start = {
                "type": "http.response.start",
                "status": self._reply.status_code,
                "headers": self._reply.raw_headers,
            }
            body = bytes(self._reply.body)[: self._body_bytes]
            await send(start)
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await hang_up(scope, receive)


class Hang(Response):
    """Say nothing for so many real seconds, then hang up."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's shape
        """Wait for whoever loses patience first."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_gone(receive), self._seconds)
        await hang_up(scope, receive)


async def hang_up(scope: Scope, receive: Receive) -> None:
    """Close the TCP connection; without one (in-process clients) raise what a client would see."""
    transport = scope.get("extensions", {}).get(TRANSPORT)
    if transport is None:
        raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
    transport.close()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Html(Response):
    """The error page of a gateway that stands before the API."""

    media_type = "text/html"

    def __init__(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
        super().__init__(page, status, headers)


def garbled(reply: Response) -> Response:
    """Give the first half of a reply as if it were all of it."""
    body = bytes(reply.body)
    return Response(body[: len(body) // 2], reply.status_code, media_type="application/json")


def cut(reply: Response) -> Response:
    """Give a reply whose connection breaks in the middle of the body."""
    return Drop(reply, len(reply.body) // 2)


def transport_scope(scope: Scope, transport: Any) -> Scope:
    """Give a scope that shows the transport."""
    return {**scope, "extensions": {**scope.get("extensions", {}), TRANSPORT: transport}}
