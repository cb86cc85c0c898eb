"""Looks at inputs: many at once, gently to each host, bounded in time and bytes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

import httpx

from wanbatch.errors import ProbeError
from wanbatch.identity import BUCKETS, TEMPORARY_STORE, is_url
from wanbatch.pace import Rate, SystemClock
from wanbatch.probe.blocks import BLOCK, BlockFile, shown
from wanbatch.probe.buckets import BucketObject
from wanbatch.probe.ranges import RangedUrl, resolve
from wanbatch.probe.reading import read_image, read_video

if TYPE_CHECKING:
    from concurrent.futures import Future

    from wanbatch.probe.blocks import Source
    from wanbatch.probe.facts import Probed
    from wanbatch.probe.ranges import Resolve

_READERS = {"video": read_video, "image": read_image}


class Prober:
    """Looks at videos and images behind URLs, in buckets and on the disk; close it after use.

    `http` is used as it is and not closed here. `allow_private` lets a public URL redirect to a private address.
    `timeout_s` bounds one input in all, `max_bytes` what is read of it.
    """

    def __init__(
        self,
        *,
        http: httpx.AsyncClient | None = None,
        concurrency: int = 8,
        per_host_rate: float = 10.0,
        timeout_s: float = 20.0,
        max_bytes: int = 4 * 1024 * 1024,
        allow_private: bool = False,
        resolve: Resolve = resolve,
    ) -> None:
        self._own_http = None if http else httpx.AsyncClient(timeout=timeout_s)
        self._http = http or cast("httpx.AsyncClient", self._own_http)
        self._places = asyncio.Semaphore(concurrency)
        # Threads of our own: slow servers must not keep the loop's default ones from the journal.
        self._threads = ThreadPoolExecutor(concurrency, "probe")
        self._per_host_rate = per_host_rate
        self._rates: dict[str, Rate] = {}
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._allow_private = allow_private
        self._resolve = resolve

    async def aclose(self) -> None:
        """Close connections and threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._own_http:
            await self._own_http.aclose()

    async def probe(self, url: str, kind: Literal["video", "image"]) -> Probed:
        """Look at one input: an http(s), s3, oss or gs URL, an image's `data:` URL or a local path.

        Raises `ProbeError` when it can't be reached, or is no video or image that can be read.
        """
        async with self._places:
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._look(url, kind)
            except TimeoutError:
                raise ProbeError(
                    f"{shown(url)}: took more than {self._timeout_s:g} s; see whether its server is well"
                ) from None

    async def _look(self, url: str, kind: Literal["video", "image"]) -> Probed:
        loop, scheme = asyncio.get_running_loop(), url.partition(":")[0].lower()
        if not is_url(url):
            work, stop = partial(_look_at_file, url, kind), None
        elif scheme in {"http", "https"}:
            bridge = _Bridge(self._ranged(url), loop)
            work, stop = partial(_look_at_source, bridge, kind, self._max_bytes), bridge.stop
        elif url.startswith(TEMPORARY_STORE):
            raise ProbeError(f"{shown(url)}: only the service can read its temporary store; use --no-probe")
        elif url.startswith(BUCKETS):
            work, stop = partial(_look_at_object, url, kind, self._max_bytes), None
        elif scheme == "data":
            work, stop = partial(_look_at_data, url, kind), None
        else:
            name = shown(url)
            raise ProbeError(
                f"{name}: has a scheme that is not read; use http(s)://, s3://, oss://, gs:// or a path"
            )
        try:
            return await loop.run_in_executor(self._threads, work)
        finally:
            if stop:
                stop()

    def _ranged(self, url: str) -> RangedUrl:
        return RangedUrl(
            url,
            self._http,
            wait_turn=self._wait_turn,
            max_bytes=self._max_bytes,
            allow_private=self._allow_private,
            resolve=self._resolve,
        )

    async def _wait_turn(self, host: str) -> None:
        if host not in self._rates:
            self._rates[host] = Rate(self._per_host_rate, SystemClock())
        await self._rates[host].wait()


class _Bridge:
    """A `RangedUrl` for a decoder that blocks in a thread; `stop` ends its waiting."""

    def __init__(self, remote: RangedUrl, loop: asyncio.AbstractEventLoop) -> None:
        self.name = remote.name
        self._remote = remote
        self._loop = loop
        self._pending: Future[bytes] | None = None
        self._stopped = False

    @property
    def size(self) -> int | None:
        return self._remote.size

    def read_at(self, start: int, length: int) -> bytes:
        if self._stopped:
            raise ProbeError(f"{self.name}: was given up")
        self._pending = asyncio.run_coroutine_threadsafe(self._remote.read_at(start, length), self._loop)
        return self._pending.result()

    def stop(self) -> None:
        self._stopped = True
        if self._pending:
            self._pending.cancel()


def _look_at_source(source: Source, kind: Literal["video", "image"], max_bytes: int) -> Probed:
    file = BlockFile(source, max_bytes)
    try:
        return _READERS[kind](cast("BinaryIO", io.BufferedReader(file, BLOCK)), source.name)
    except ProbeError as error:
        raise file.failure or error from None


def _look_at_object(url: str, kind: Literal["video", "image"], max_bytes: int) -> Probed:
    return _look_at_source(BucketObject(url), kind, max_bytes)


def _look_at_file(path: str, kind: Literal["video", "image"]) -> Probed:
    name = shown(path)
    try:
        if not Path(path).is_file():  # opening a pipe would wait for a writer
            raise ProbeError(f"{name}: there is no such file; mend the path")
        with Path(path).open("rb") as file:
            return _READERS[kind](file, name)
    except OSError as error:
        raise ProbeError(f"{name}: {error.strerror or error}; give a readable file") from None


def _look_at_data(url: str, kind: Literal["video", "image"]) -> Probed:
    name = shown(url)
    try:
        return _READERS[kind](io.BytesIO(base64.b64decode(url.partition(",")[2], validate=True)), name)
    except binascii.Error:
        raise ProbeError(f"{name}: is not base64; encode it again") from None
