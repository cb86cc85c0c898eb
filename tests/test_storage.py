"""Finished videos on their way to disk: whole, checked, and never in another's place."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import fastcrc
import httpx
import pytest

from wanbatch.emulator.render import tiny_clip
from wanbatch.errors import DownloadError
from wanbatch.storage import VideoStore, video_seconds

HOST = "results.example"
URL = f"http://{HOST}/v.mp4"
OF = {"key": "k" * 32, "task_id": "t"}


class Shelf(httpx.AsyncBaseTransport):
    """A result host with one object, its headers changed as a test likes."""

    def __init__(self, content: bytes, **headers: str) -> None:
        self.content, self.headers, self.requests = content, headers, list[httpx.Request]()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Give the object."""
        self.requests.append(request)
        given = {"content-length": str(len(self.content))} | self.headers
        return httpx.Response(200, headers=given, stream=_Bytes(self.content))


class _Bytes(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), 1000):
            yield self._content[start : start + 1000]


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    """Give the bytes of a real clip of three seconds."""
    tiny_clip(Decimal("3.00"), tmp_path / "made.mp4")
    return (tmp_path / "made.mp4").read_bytes()


def store(folder: Path, shelf: Shelf, host: str = HOST) -> VideoStore:
    """Make a store in a folder, whose result host is the shelf."""
    (folder / "videos").mkdir(exist_ok=True)
    return VideoStore(str(folder / "videos"), service_host=host, transport=shelf)


async def test_a_whole_video_is_kept(tmp_path: Path, clip: bytes) -> None:
    """A video that is what the store says it is appears under its name, with its digest, and without our key."""
    shelf = Shelf(clip, **{"x-oss-hash-crc64ecma": str(fastcrc.crc64.xz(clip))})
    stored = await store(tmp_path, shelf).fetch(URL, "a.mp4", **OF, seconds=Decimal("3.00"))
    assert Path(stored.output).read_bytes() == clip
    assert stored.sha256 == hashlib.sha256(clip).hexdigest()
    assert "authorization" not in shelf.requests[0].headers
    assert [path.name for path in Path(stored.output).parent.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"x-oss-hash-crc64ecma": "1"}, "CRC-64"),
        ({"content-md5": "AAAA"}, "MD5"),
        ({"content-length": "99999999"}, "bytes came"),
    ],
)
async def test_what_is_not_what_the_store_has_is_refused(
    tmp_path: Path, clip: bytes, headers: dict[str, str], said: str
) -> None:
    """A checksum or a length that differs keeps the file from appearing."""
    with pytest.raises(DownloadError, match=said):
        await store(tmp_path, Shelf(clip, **headers)).fetch(URL, "a.mp4", **OF, seconds=None)
    assert not (tmp_path / "videos" / "a.mp4").exists()


@pytest.mark.parametrize("content", [b"", b"<html>sorry</html>", b"\x00" * 5000])
async def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    """A page, zeros or nothing at all is no video, whatever the status says."""
    with pytest.raises(DownloadError, match="not a video"):
        await store(tmp_path, Shelf(content)).fetch(URL, "a.mp4", **OF, seconds=None)


async def test_a_video_of_another_length_is_refused_and_then_kept_with_a_note(
    tmp_path: Path, clip: bytes
) -> None:
    """A length that was not billed is not accepted lightly; when it stays so, it is what was made."""
    videos = store(tmp_path, Shelf(clip))
    with pytest.raises(DownloadError, match=r"lasts 3\.00 s, but 9 s were billed"):
        await videos.fetch(URL, "a.mp4", **OF, seconds=Decimal(9))
    stored = await videos.fetch(URL, "a.mp4", **OF, seconds=Decimal(9), strict=False)
    assert "9 s were billed" in stored.note


async def test_another_file_is_never_replaced(tmp_path: Path, clip: bytes) -> None:
    """A different file of the same name stays; the same video again takes no second name."""
    videos = store(tmp_path, Shelf(clip))
    (tmp_path / "videos" / "a.mp4").write_bytes(b"mine")
    stored = await videos.fetch(URL, "a.mp4", key="0123456789abcdef", task_id="t", seconds=None)
    assert Path(stored.output).name == "a-01234567.mp4"
    assert (tmp_path / "videos" / "a.mp4").read_bytes() == b"mine"
    again = await videos.fetch(URL, "a.mp4", key="0123456789abcdef", task_id="t", seconds=None)
    assert again.output == stored.output


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://dashscope-a717.oss-accelerate.aliyuncs.com/v.mp4?Signature=s", True),
        ("http://dashscope-a717.oss-accelerate.aliyuncs.com/v.mp4", False),
        ("https://aliyuncs.com.evil.example/v.mp4", False),
        ("https://evil.example/x.aliyuncs.com", False),
        ("file:///etc/passwd", False),
        ("http://169.254.169.254/latest", False),
        (URL, True),
    ],
)
async def test_results_come_from_the_vendor_or_from_the_service_itself(
    tmp_path: Path, clip: bytes, url: str, *, allowed: bool
) -> None:
    """A result URL that leads anywhere else is not followed."""
    shelf = Shelf(clip)
    videos = store(tmp_path, shelf)
    if allowed:
        await videos.fetch(url, "a.mp4", **OF, seconds=None)
    else:
        with pytest.raises(DownloadError, match="unexpected host"):
            await videos.fetch(url, "a.mp4", **OF, seconds=None)
    assert bool(shelf.requests) is allowed


def test_the_length_is_measured(tmp_path: Path, clip: bytes) -> None:
    """A clip's length is found by reading it, to the hundredth."""
    (tmp_path / "c.mp4").write_bytes(clip)
    assert abs(video_seconds(tmp_path / "c.mp4") - 3) < Decimal("0.01")
