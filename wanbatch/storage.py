"""Where videos go: fetched from the service's result host, checked, and visible only when whole."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import av
import fastcrc
import httpx

from wanbatch.errors import DownloadError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PIECE = 256 * 1024
_STALLED_S = 60.0
_WHOLE_S = 900.0
_RESULT_HOSTS = ".aliyuncs.com"
"""Result URLs point into the vendor's object storage; nothing else is fetched on their word."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A video that is ours."""

    path: Path
    size: int
    sha256: str
    note: str = ""
    """What is odd about it, in one line."""


class VideoStore:
    """A folder of finished videos."""

    def __init__(
        self, folder: Path, *, service_host: str, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.folder = folder
        self._service_host = service_host
        # A client of its own: the key is never sent to the result host, which refuses it anyway.
        self._http = httpx.AsyncClient(
            transport=transport, follow_redirects=False, timeout=httpx.Timeout(_STALLED_S)
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def fetch(
        self, url: str, name: str, *, key: str, seconds: Decimal | None, strict: bool = True
    ) -> Stored:
        """Fetch a finished video into `name`; `seconds` is what the service says it lasts.

        A whole video of another length is refused when `strict`, and kept with a note otherwise.

        A file that is there already and is another video is never replaced: a row whose prompt was changed keeps
        its id but is another edit, and the folder may hold files of yours. The item's key then goes into the name.
        Raises `DownloadError` when it can't be had whole right now, `StorageError` when the disk refuses it.
        """
        self._allow(url)
        path = self.folder / name
        part = path.with_name(f"{path.name}.{key[:8]}.part")
        try:
            async with asyncio.timeout(_WHOLE_S):
                size, sha256 = await self._stream(url, part)
            note = await asyncio.to_thread(_verify, part, name, seconds)
            if note and strict:
                raise DownloadError(note)
            path = await asyncio.to_thread(_publish, part, path, key, sha256)
        except TimeoutError:
            raise DownloadError(f"{name}: not whole after {_WHOLE_S / 60:.0f} minutes") from None
        except OSError as error:
            raise _storage_error(path, error) from None
        return Stored(path, size, sha256, note)

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

    async def _stream(self, url: str, part: Path) -> tuple[int, str]:
        digest, crc, size = hashlib.sha256(), 0, 0
        try:
            async with self._http.stream("GET", url) as response:
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                    raise DownloadError(_refusal(response))
                with part.open("wb") as file:
                    async for piece in response.aiter_bytes(_PIECE):
                        await asyncio.to_thread(file.write, piece)
                        digest.update(piece)
                        crc = fastcrc.crc64.xz(piece, crc)
                        size += len(piece)
                    file.flush()
                    await asyncio.to_thread(os.fsync, file.fileno())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DownloadError(f"{part.stem}: the download broke off ({type(error).__name__})") from None
        _compare(part.stem, response.headers, size=size, crc=crc, part=part)
        return size, digest.hexdigest()


def prepare_folder(folder: Path) -> None:
    """Make a folder, and see that it can be written before anything is paid; raises `StorageError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _storage_error(folder, error) from None


def _compare(name: str, headers: Mapping[str, str], *, size: int, crc: int, part: Path) -> None:
    """Hold what came against what the object store says of it, as far as it says anything.

    https://www.alibabacloud.com/help/en/oss/developer-reference/check-data-transmission-integrity-using-crc-64
    """
    length, whole_crc, md5 = (
        headers.get(h) for h in ("content-length", "x-oss-hash-crc64ecma", "content-md5")
    )
    if length is not None and "content-encoding" not in headers and length != str(size):
        raise DownloadError(f"{name}: {size} of {length} bytes came")
    if whole_crc is not None and whole_crc != str(crc):
        raise DownloadError(f"{name}: the bytes that came are not the ones the store has (CRC-64)")
    if md5 is not None and whole_crc is None:
        with part.open("rb") as file:
            found = base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()
        if found != md5:
            raise DownloadError(f"{name}: the bytes that came are not the ones the store has (MD5)")


def _refusal(response: httpx.Response) -> str:
    expired = response.status_code == httpx.codes.FORBIDDEN and b"expired" in response.content[:4096]
    return (
        "the result URL has expired" if expired else f"the result host answered HTTP {response.status_code}"
    )


def _verify(part: Path, name: str, seconds: Decimal | None) -> str:
    """Open the file as a video, read it to its end, and say when its length is not what was billed."""
    try:
        lasts = video_seconds(part)
    except (av.error.FFmpegError, ValueError) as error:
        raise DownloadError(f"{name}: what came is not a video that opens ({type(error).__name__})") from None
    if seconds is not None and abs(lasts - seconds) > max(Decimal("0.5"), seconds / 20):
        return f"{name}: lasts {lasts:.2f} s, but {seconds} s were billed"
    return ""


def video_seconds(path: Path) -> Decimal:
    """Measure how long the first video stream of a local file plays, by reading every packet of it."""
    with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
        if not container.streams.video:
            raise ValueError("no video stream")
        stream = container.streams.video[0]
        first, last = None, None
        for packet in container.demux(stream):
            if packet.pts is None or packet.time_base is None:
                continue
            start = packet.pts * packet.time_base
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            first = start if first is None else min(first, start)
            last = end if last is None else max(last, end)
        if first is None or last is None:
            raise ValueError("no frames")
        seconds = last - first
        return Decimal(seconds.numerator) / Decimal(seconds.denominator)


def _publish(part: Path, path: Path, key: str, sha256: str) -> Path:
    """Let a whole file appear under its name, for good."""
    if path.exists() and _sha256(path) != sha256:
        path = path.with_name(f"{path.stem}-{key[:8]}{path.suffix}")
    part.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _storage_error(where: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{where}: {error.strerror or error}; make room or mend its permissions, then run again: "
        "what is paid is fetched then"
    )
