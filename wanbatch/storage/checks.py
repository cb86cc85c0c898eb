"""Whether what came is whole, and the video that was paid."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import TYPE_CHECKING

import av

from wanbatch.errors import DownloadError

if TYPE_CHECKING:
    from pathlib import Path

    from wanbatch.buckets import Facts
    from wanbatch.storage.download import Told


def check_whole(name: str, told: Told, facts: Facts) -> None:
    """Hold a file against what the result host says of the object, as far as it says anything.

    https://www.alibabacloud.com/help/en/oss/developer-reference/check-data-transmission-integrity-using-crc-64
    Raises `DownloadError`.
    """
    if told.size is not None and told.size != facts.size:
        raise DownloadError(f"{name}: {facts.size} of {told.size} bytes came")
    if told.crc64 is not None and told.crc64 != str(facts.crc64):
        raise DownloadError(f"{name}: the bytes that came are not the ones the store has (CRC-64)")
    if told.md5 is not None and told.crc64 is None and told.md5 != base64.b64encode(facts.md5).decode():
        raise DownloadError(f"{name}: the bytes that came are not the ones the store has (MD5)")


def check_video(file: Path, name: str, seconds: Decimal | None, *, strict: bool) -> str:
    """Open a file as a video, read it to its end, and say when its length is not what was billed.

    Raises `DownloadError` when it is no video, and when it is `strict` and there is something to say.
    """
    try:
        lasts = video_seconds(file)
    except (av.error.FFmpegError, ValueError) as error:
        raise DownloadError(f"{name}: what came is not a video that opens ({type(error).__name__})") from None
    if seconds is None or abs(lasts - seconds) <= max(Decimal("0.5"), seconds / 20):
        return ""
    note = f"{name}: lasts {lasts:.2f} s, but {seconds} s were billed"
    if strict:
        raise DownloadError(note)
    return note


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
