"""Pieces of an object behind an HTTP URL, by ranged GETs; redirects are followed by hand and looked at.

The danger is the redirect: whoever serves a public URL must not be able to point us at a machine inside. An
address that the user wrote is the user's business, private or not.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import TYPE_CHECKING

import httpx

from wanbatch.errors import ProbeError
from wanbatch.pace import delay
from wanbatch.probe.blocks import shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Resolve = Callable[[str, int], Awaitable[list[str]]]
    """Host and port to IP addresses; raises OSError."""

_REDIRECTS = 5
_TRIES = 3
_TOO_MANY = httpx.codes.TOO_MANY_REQUESTS
_DIGITS = 19
"""A longer number of bytes is nonsense, and slow to read."""
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)")
_MENDS = {
    401: "is not readable without a login; give a public or a signed URL",
    403: "is not readable: private, or its signature has expired; give a fresh URL",
    404: "is not there; mend the URL",
    410: "is gone; mend the URL",
}


async def resolve(host: str, port: int) -> list[str]:
    """Look a host up as a connection would."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


class RangedUrl:
    """One URL's bytes, from anywhere; used by one reader at a time."""

    def __init__(
        self,
        url: str,
        http: httpx.AsyncClient,
        *,
        wait_turn: Callable[[str], Awaitable[None]],
        max_bytes: int,
        allow_private: bool,
        resolve: Resolve,
    ) -> None:
        self.name = shown(url)
        self.size: int | None = None
        self._http = http
        self._wait_turn = wait_turn
        self._max_bytes = max_bytes
        self._allow_private = allow_private
        self._resolve = resolve
        self._origin = self._url = self._checked(url)
        self._head: bytes | None = None
        """What came from a server that does not know ranges."""

    async def read_at(self, start: int, length: int) -> bytes:
        """Give up to `length` bytes from `start` on; raises `ProbeError`."""
        if self._head is None:
            piece = await self._fetched(start, length)
            if self._head is None:
                return piece
        if start + length > len(self._head) and self.size != len(self._head):
            raise ProbeError(
                f"{self.name}: its server sends files only from the start, and what is needed lies further back; "
                "write the file anew with its index in front (ffmpeg -movflags +faststart)"
            )
        return self._head[start : start + length]

    async def _fetched(self, start: int, length: int) -> bytes:
        """Ask, and again after a while when the server or the way to it is only out of sorts."""
        for tries in range(1, _TRIES + 1):
            try:
                answer = await self._followed(start, length)
            except httpx.TransportError as error:
                trouble, after = f"can't be fetched ({_said(error)})", None
            else:
                if isinstance(answer, bytes):
                    return answer
                trouble, after = answer
            if tries < _TRIES:
                await asyncio.sleep(delay(tries, retry_after_s=after, base_s=0.5, wait_max_s=5.0))
        raise ProbeError(f"{self.name}: {trouble}; see whether its server is up, and run again")

    async def _followed(self, start: int, length: int) -> bytes | tuple[str, float | None]:
        """Follow redirects to the bytes; gives trouble and `Retry-After` where asking again may help."""
        url = self._url
        headers = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        for _ in range(_REDIRECTS + 1):
            await self._wait_turn(url.host)
            async with self._http.stream("GET", url, headers=headers, follow_redirects=False) as response:
                if response.has_redirect_location:
                    url = await self._allowed(self._checked(response.headers["location"], url))
                    continue
                if response.status_code == _TOO_MANY or response.is_server_error:
                    return f"its server answered HTTP {response.status_code}", _retry_after(response)
                self._url = url
                return await self._taken(response, start, length)
        raise ProbeError(f"{self.name}: redirects more than {_REDIRECTS} times; give the final URL")

    async def _taken(self, response: httpx.Response, start: int, length: int) -> bytes:
        status = response.status_code
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ProbeError(
                f"{self.name}: its server sends it compressed though asked not to; give another URL"
            )
        if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return b""
        if status == httpx.codes.PARTIAL_CONTENT:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if found is None or found[1] is None or int(found[1]) != start:
                raise ProbeError(f"{self.name}: its server answers with another range; give another URL")
            self.size = None if found[3] == "*" else int(found[3])
            return await _read(response, length)
        if status == httpx.codes.OK:
            self._head = await _read(response, self._max_bytes)
            length_told = response.headers.get("content-length", "")
            told = int(length_told) if length_told.isdecimal() and len(length_told) < _DIGITS else None
            self.size = told if told is not None or len(self._head) >= self._max_bytes else len(self._head)
            return b""
        raise ProbeError(
            f"{self.name}: {_MENDS.get(status, f'its server answered HTTP {status}; mend the URL')}"
        )

    def _checked(self, text: str, base: httpx.URL | None = None) -> httpx.URL:
        try:
            url = base.join(text) if base else httpx.URL(text)
        except httpx.InvalidURL:
            raise ProbeError(f"{self.name}: is or leads to a URL that is not one; mend it") from None
        if url.scheme not in {"http", "https"} or not url.host:
            raise ProbeError(
                f"{self.name}: leads to a {url.scheme or 'relative'} address; give an http(s) URL"
            )
        return url

    async def _allowed(self, target: httpx.URL) -> httpx.URL:
        """Let no public URL lead to a private address."""
        if self._allow_private or await self._is_private(self._origin):
            return target
        if await self._is_private(target):
            raise ProbeError(
                f"{self.name}: redirects to a private address ({target.host}); give the final URL"
            )
        return target

    async def _is_private(self, url: httpx.URL) -> bool:
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            addresses = await self._resolve(url.host, port)
        except (OSError, UnicodeError):
            raise ProbeError(f"{self.name}: there is no host {url.host}; mend the URL") from None
        return not all(_is_public(address) for address in addresses)


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_global


async def _read(response: httpx.Response, most: int) -> bytes:
    """Read up to `most` bytes of a body, whatever its length claims; the connection is dropped with the rest."""
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) >= most:
            break
    return bytes(body[:most])


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None


def _said(error: httpx.TransportError) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
