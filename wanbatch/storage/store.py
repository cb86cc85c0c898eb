"""From the result URL to the video that is ours."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from wanbatch.buckets import facts_of, off_loop
from wanbatch.errors import DownloadError
from wanbatch.storage.checks import check_video, check_whole
from wanbatch.storage.download import Downloader
from wanbatch.storage.places import Origin, place_of, storage_error

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import Path

    import httpx

    from wanbatch.buckets import Facts

_WHOLE_S = 900.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A video that is ours."""

    output: str
    """Its path, or its URL in a bucket."""
    size: int
    sha256: str
    note: str = ""
    """What is odd about it, in one line."""


class VideoStore:
    """Finished videos in a folder, or under the prefix of a bucket."""

    def __init__(
        self, where: str, *, service_host: str, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._place = place_of(where)
        self._where = where
        self._downloads = Downloader(service_host, transport)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._downloads.aclose()

    async def fetch(
        self, url: str, name: str, *, key: str, task_id: str, seconds: Decimal | None, strict: bool = True
    ) -> Stored:
        """Fetch a finished video into `name`; `seconds` is what the service says it lasts.

        What an earlier try brought, in this run or another, is not fetched again; all of it is checked. A whole
        video of another length is refused when `strict`, and kept with a note otherwise. What is there under the
        name already and is another video stays: see `wanbatch.storage.places`.
        Raises `DownloadError` when it can't be had whole right now, `StorageError` when disk or bucket refuse it.
        """
        origin = Origin(name=name, key=key, task_id=task_id)
        where: str | Path = self._where
        try:
            where = part = await off_loop(self._place.part, origin)
            async with asyncio.timeout(_WHOLE_S):
                facts, note = await self._whole(url, part, name, seconds, strict=strict)
            output = await off_loop(self._place.publish, part, origin, facts)
        except TimeoutError:
            raise DownloadError(f"{name}: not whole after {_WHOLE_S / 60:.0f} minutes") from None
        except OSError as error:
            raise storage_error(where, error) from None
        return Stored(output, facts.size, facts.sha256, note)

    async def _whole(
        self, url: str, part: Path, name: str, seconds: Decimal | None, *, strict: bool
    ) -> tuple[Facts, str]:
        """Bring a video onto the disk and check all of it; what does not pass is thrown away."""
        told = await self._downloads.bring(url, part)
        facts = await off_loop(facts_of, part)
        try:
            check_whole(name, told, facts)
            note = await off_loop(partial(check_video, part, name, seconds, strict=strict))
        except DownloadError:
            self._downloads.discard(part)
            raise
        return facts, note
