"""A far end on a real loopback socket that does exactly what a test says, byte by byte."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    Behaviour = Callable[[asyncio.StreamWriter], Awaitable[bool]]
    """What to do with one request; true keeps the connection for the next."""


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FarEnd:
    """Where it listens, and what it saw."""

    port: int = 0
    connections: int = 0
    requests: list[Seen] = field(default_factory=list)

    def url(self, scheme: str = "http") -> str:
        """Give its address, with the path of the API."""
        return f"{scheme}://127.0.0.1:{self.port}/api/v1"


def raw(status: str, body: bytes = b"", length: int = 0, /, **headers: str) -> bytes:
    """Write an HTTP answer; `length` may promise more than there is."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [
        f"{name}: {value}" for name, value in (named | {"content-length": str(length or len(body))}).items()
    ]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


def says(content: Any, status: str = "200 OK", **headers: str) -> Behaviour:
    """Answer with JSON."""
    return sends(raw(status, json.dumps(content).encode(), content_type="application/json", **headers))


def sends(answer: bytes) -> Behaviour:
    """Answer with these bytes, and keep the connection."""

    async def behave(writer: asyncio.StreamWriter) -> bool:
        writer.write(answer)
        await writer.drain()
        return True

    return behave


def drops_after(answer: bytes = b"") -> Behaviour:
    """Close the connection after these bytes."""

    async def behave(writer: asyncio.StreamWriter) -> bool:
        writer.write(answer)
        await writer.drain()
        return False

    return behave


def hangs_after(answer: bytes = b"") -> Behaviour:
    """Say nothing more after these bytes, for good."""

    async def behave(writer: asyncio.StreamWriter) -> bool:
        writer.write(answer)
        await asyncio.Event().wait()
        return False

    return behave


def trickles(answer: bytes) -> Behaviour:
    """Send a byte every now and then, for good: no pause is long enough to be a time-out."""

    async def behave(writer: asyncio.StreamWriter) -> bool:
        writer.write(answer)
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    return behave


def breaks_the_cipher(answer: bytes = b"") -> Behaviour:
    """Put bytes under the TLS layer that no cipher made."""

    async def behave(writer: asyncio.StreamWriter) -> bool:
        writer.write(answer)
        await writer.drain()
        os.write(writer.get_extra_info("socket").fileno(), b"HTTP/1.1 200 OK\r\n\r\n" * 4)
        await asyncio.Event().wait()
        return False

    return behave


@asynccontextmanager
async def far_end(*behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[FarEnd]:
    """Serve requests one behaviour each, the last one for all that follow."""
    seen = FarEnd()
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            handlers.add(task)
        seen.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            going = True
            while going:
                seen.requests.append(await _request(reader))
                turn = min(len(seen.requests), len(behaviours)) - 1
                going = await behaviours[turn](writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, body)
