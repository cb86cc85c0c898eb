"""A file from the result host, taken up where an earlier try broke off.

https://www.alibabacloud.com/help/en/oss/how-to-obtain-oss-resources-by-segmenting-http-range-requests
A range that the store doesn't like is answered with the whole object. `x-oss-range-behavior: standard` would
change that, and can't be sent: a signed URL has to be signed for every `x-oss-` header that comes with it.
"""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from wanbatch.errors import DownloadError

if TYPE_CHECKING:
    from pathlib import Path

_STALLED_S = 60.0
_RESULT_HOSTS = ".aliyuncs.com"
"""Result URLs point into the vendor's object storage; nothing else is fetched on their word."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Told:
    """What the result host says of the whole object, each None when it does not say."""

    size: int | None
    crc64: str | None
    md5: str | None


class Downloader:
    """Brings results onto the disk; close it after use."""

    def __init__(self, service_host: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._service_host = service_host
        # A client of its own: the key is never sent to the result host, which refuses it anyway.
        self._http = httpx.AsyncClient(
            transport=transport, follow_redirects=False, timeout=httpx.Timeout(_STALLED_S)
        )
        self._etags: dict[Path, str] = {}
        """Of the object that each unfinished file is the beginning of."""

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def bring(self, url: str, part: Path) -> Told:
        """Complete a file with what it lacks, and say what it should be; it is on the disk then.

        Raises `DownloadError`; what came stays for the next try, unless it can't be gone on with. Raises OSError.
        """
        self._allow(url)
        start = _start(part)
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if etag := self._etags.get(part):
                headers["If-Range"] = etag
        try:
            async with self._http.stream("GET", url, headers=headers) as response:
                told = await self._answered(response, part, start)
                await _write(
                    response, part, start if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
                )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DownloadError(f"{part.stem}: the download broke off ({type(error).__name__})") from None
        self._etags.pop(part, None)
        return told

    def discard(self, part: Path) -> None:
        """Throw away what came: the next try starts over."""
        self._etags.pop(part, None)
        part.unlink(missing_ok=True)

    async def _answered(self, response: httpx.Response, part: Path, start: int) -> Told:
        """Say what the answer is of; raises `DownloadError` when it is not the object, or not its rest."""
        headers, status = response.headers, response.status_code
        told = Told(_size(response), headers.get("x-oss-hash-crc64ecma"), headers.get("content-md5"))
        etag = headers.get("etag", "")
        if status == httpx.codes.PARTIAL_CONTENT and start:
            same = self._etags[part] == etag if part in self._etags else bool(told.crc64 or told.md5)
            if not (same and told.size and _is_rest(headers.get("content-range", ""), start)):
                self.discard(part)
                raise DownloadError(f"{part.stem}: what came does not go on where the last try broke off")
        elif status != httpx.codes.OK:
            await response.aread()
            if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.discard(part)
            raise DownloadError(_refusal(response))
        if etag and not etag.startswith("W/"):
            self._etags[part] = etag
        return told

    def _allow(self, url: str) -> None:
        """Refuse a result URL that leads anywhere but to the vendor's storage, or to the very service we use."""
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            raise DownloadError("the service gave a result URL that is not one") from None
        vendor = parts.scheme == "https" and host.endswith(_RESULT_HOSTS)
        own = parts.scheme in {"http", "https"} and host == self._service_host
        if not (vendor or own):
            raise DownloadError(f"the service gave a result on an unexpected host ({parts.scheme}://{host})")


def _start(part: Path) -> int:
    """Give the first byte to ask for: the last that came, since a range after the end of all would be refused."""
    return max(part.stat().st_size - 1, 0) if part.exists() else 0


async def _write(response: httpx.Response, part: Path, start: int) -> None:
    with part.open("r+b" if start else "wb") as file:
        file.truncate(start)
        file.seek(start)
        try:
            async for (
                piece
            ) in response.aiter_bytes():  # as they come: of a break in mid-piece nothing is lost
                await asyncio.to_thread(file.write, piece)
        finally:
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())


def _size(response: httpx.Response) -> int | None:
    """Give the length of the whole object in bytes."""
    if found := _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "")):
        return int(found[3])
    length = response.headers.get("content-length", "")
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    return int(length) if length.isdecimal() and not encoded else None


def _is_rest(content_range: str, start: int) -> bool:
    found = _CONTENT_RANGE.fullmatch(content_range)
    return found is not None and int(found[1]) == start and int(found[2]) == int(found[3]) - 1


def _refusal(response: httpx.Response) -> str:
    expired = response.status_code == httpx.codes.FORBIDDEN and b"expired" in response.content[:4096]
    return (
        "the result URL has expired" if expired else f"the result host answered HTTP {response.status_code}"
    )
