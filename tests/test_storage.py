"""Finished videos on their way to disk: whole, checked, and never in another's place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import fastcrc
import httpx
import pytest

from tests.bucketstore import Fault, Store, served_store, store
from wanbatch.emulator.render import tiny_clip
from wanbatch.errors import DownloadError, StorageError, UsageError
from wanbatch.storage import Stored, VideoStore, prepare, video_seconds
from wanbatch.storage.places import Origin

__all__ = ["served_store", "store"]

HOST = "results.example"
URL = f"http://{HOST}/v.mp4"
KEY = "k" * 32


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


def shelved(folder: Path, shelf: httpx.AsyncBaseTransport, host: str = HOST) -> VideoStore:
    """Make a store in a folder, whose result host is the shelf."""
    (folder / "videos").mkdir(exist_ok=True)
    return VideoStore(str(folder / "videos"), service_host=host, transport=shelf)


async def fetch(
    videos: VideoStore,
    name: str = "a.mp4",
    *,
    url: str = URL,
    key: str = KEY,
    task_id: str = "t",
    seconds: Decimal | None = None,
    strict: bool = True,
) -> Stored:
    """Fetch a video of a task."""
    return await videos.fetch(url, name, key=key, task_id=task_id, seconds=seconds, strict=strict)


def kept(stored: Stored) -> bytes:
    """Give the bytes of a video that is ours."""
    return Path(stored.output).read_bytes()


async def test_a_whole_video_is_kept(tmp_path: Path, clip: bytes) -> None:
    """A video that is what the store says it is appears under its name, with its digest, and without our key."""
    shelf = Shelf(clip, **{"x-oss-hash-crc64ecma": str(fastcrc.crc64.xz(clip))})
    stored = await fetch(shelved(tmp_path, shelf), seconds=Decimal("3.00"))
    assert kept(stored) == clip
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
        await fetch(shelved(tmp_path, Shelf(clip, **headers)))
    assert not (tmp_path / "videos" / "a.mp4").exists()


@pytest.mark.parametrize("content", [b"", b"<html>sorry</html>", b"\x00" * 5000])
async def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    """A page, zeros or nothing at all is no video, whatever the status says."""
    with pytest.raises(DownloadError, match="not a video"):
        await fetch(shelved(tmp_path, Shelf(content)))


async def test_a_video_of_another_length_is_refused_and_then_kept_with_a_note(
    tmp_path: Path, clip: bytes
) -> None:
    """A length that was not billed is not accepted lightly; when it stays so, it is what was made."""
    videos = shelved(tmp_path, Shelf(clip))
    with pytest.raises(DownloadError, match=r"lasts 3\.00 s, but 9 s were billed"):
        await fetch(videos, seconds=Decimal(9))
    stored = await fetch(videos, seconds=Decimal(9), strict=False)
    assert "9 s were billed" in stored.note


async def test_another_file_is_never_replaced(tmp_path: Path, clip: bytes) -> None:
    """A different file of the same name stays; the same video again takes no second name."""
    videos = shelved(tmp_path, Shelf(clip))
    (tmp_path / "videos" / "a.mp4").write_bytes(b"mine")
    stored = await fetch(videos, key="0123456789abcdef")
    assert Path(stored.output).name == "a-01234567.mp4"
    assert (tmp_path / "videos" / "a.mp4").read_bytes() == b"mine"
    again = await fetch(videos, key="0123456789abcdef")
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
    videos = shelved(tmp_path, shelf)
    if allowed:
        await fetch(videos, url=url)
    else:
        with pytest.raises(DownloadError, match="unexpected host"):
            await fetch(videos, url=url)
    assert bool(shelf.requests) is allowed


def test_the_length_is_measured(tmp_path: Path, clip: bytes) -> None:
    """A clip's length is found by reading it, to the hundredth."""
    (tmp_path / "c.mp4").write_bytes(clip)
    assert abs(video_seconds(tmp_path / "c.mp4") - 3) < Decimal("0.01")


# ------------------------------------------------------------------------------------- where it broke off


class Breaking(httpx.AsyncBaseTransport):
    """A result host that breaks off after so many bytes, a number a request, and knows ranges as OSS does."""

    def __init__(self, content: bytes, *breaks: int, crc: bool = True, etag: str = '"A"') -> None:
        self.content, self.breaks = content, list(breaks)
        self.headers = {"x-oss-hash-crc64ecma": str(fastcrc.crc64.xz(content))} if crc else {}
        self.etag = etag
        self.asked = list[tuple[str | None, str | None]]()
        self.sent = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Give the object, or its rest, or the beginning of either."""
        asked = request.headers.get("range")
        self.asked.append((asked, request.headers.get("if-range")))
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        rest = self.content[start:]
        headers = self.headers | {"etag": self.etag, "content-length": str(len(rest))}
        if asked:
            headers["content-range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        given = rest[: self.breaks.pop(0)] if self.breaks else rest
        self.sent += len(given)
        stream = _Broken(given) if len(given) < len(rest) else _Bytes(given)
        return self.changed(httpx.Response(206 if asked else 200, headers=headers, stream=stream))

    def changed(self, response: httpx.Response) -> httpx.Response:
        """Change an answer as a test likes."""
        return response


class _Broken(_Bytes):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in super().__aiter__():
            yield piece
        raise httpx.RemoteProtocolError("peer closed connection")


async def fetched(videos: VideoStore, tries: int) -> Stored:
    """Fetch, and again after so many failures."""
    for _ in range(tries):
        with pytest.raises(DownloadError):
            await fetch(videos)
    return await fetch(videos)


async def test_a_broken_download_goes_on_where_it_stopped(tmp_path: Path, clip: bytes) -> None:
    """Every try brings what the ones before it did not, and one byte more; the object's ETag ties them together."""
    host = Breaking(clip, 1000, 500)
    stored = await fetched(shelved(tmp_path, host), 2)
    assert kept(stored) == clip
    assert host.asked == [(None, None), ("bytes=999-", '"A"'), ("bytes=1498-", '"A"')]
    assert host.sent == len(clip) + 2
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["a.mp4"]


async def test_the_next_run_goes_on_too(tmp_path: Path, clip: bytes) -> None:
    """What a run left is the beginning of what the next one fetches; another task of the item starts over."""
    await_break = Breaking(clip, 1000)
    with pytest.raises(DownloadError):
        await fetch(shelved(tmp_path, await_break))
    other = Breaking(clip)
    await fetch(shelved(tmp_path, other), "b.mp4", task_id="another")
    assert other.asked == [(None, None)]
    host = Breaking(clip)
    stored = await fetch(shelved(tmp_path, host))
    assert host.asked == [("bytes=999-", None)]
    assert kept(stored) == clip


async def test_a_whole_file_that_was_never_published_is_published(tmp_path: Path, clip: bytes) -> None:
    """A crash before the last step leaves a whole file, of which one byte is fetched again."""
    videos = shelved(tmp_path, Breaking(clip, len(clip) - 1))
    with pytest.raises(DownloadError):
        await fetch(videos)
    (part,) = (tmp_path / "videos").glob("*.part")
    part.write_bytes(clip)
    host = Breaking(clip)
    stored = await fetch(shelved(tmp_path, host))
    assert host.sent == 1
    assert kept(stored) == clip


async def test_a_rest_that_can_not_be_checked_starts_over(tmp_path: Path, clip: bytes) -> None:
    """Without a checksum of the whole, and without the ETag of the beginning, the beginning is thrown away."""
    with pytest.raises(DownloadError):
        await fetch(shelved(tmp_path, Breaking(clip, 1000, crc=False)))
    host = Breaking(clip, crc=False)
    stored = await fetched(shelved(tmp_path, host), 1)
    assert [asked for asked, _ in host.asked] == ["bytes=999-", None]
    assert kept(stored) == clip


async def test_another_object_is_not_put_behind_a_beginning(tmp_path: Path, clip: bytes) -> None:
    """When the object is another one by now, nothing of the old one is kept."""
    host = Breaking(clip, 1000)
    videos = shelved(tmp_path, host)
    with pytest.raises(DownloadError):
        await fetch(videos)
    host.etag = '"B"'
    stored = await fetched(videos, 1)
    assert kept(stored) == clip
    assert host.asked[-1] == (None, None)


async def test_a_beginning_that_went_bad_is_found(tmp_path: Path, clip: bytes) -> None:
    """The checksum is of all bytes, also of those that lay on the disk: a wrong one among them starts over."""
    host = Breaking(clip, 1000)
    with pytest.raises(DownloadError):
        await fetch(shelved(tmp_path, host))
    (part,) = (tmp_path / "videos").glob("*.part")
    part.write_bytes(b"\0" * 1000)
    videos = shelved(tmp_path, host)
    with pytest.raises(DownloadError, match="CRC-64"):
        await fetch(videos)
    stored = await fetch(videos)
    assert host.asked[-1] == (None, None)
    assert kept(stored) == clip


@pytest.mark.parametrize("kind", ["ignored", "elsewhere", "refused"])
async def test_answers_that_are_not_the_rest_are_not_appended(tmp_path: Path, clip: bytes, kind: str) -> None:
    """The whole object in place of a range, another range, and a refused range all end in the one whole video."""

    class Odd(Breaking):
        def changed(self, response: httpx.Response) -> httpx.Response:
            if response.status_code != 206:
                return response
            if kind == "ignored":
                return httpx.Response(200, headers=self.headers, stream=_Bytes(self.content))
            if kind == "refused":
                return httpx.Response(416)
            response.headers["content-range"] = f"bytes 5-{len(clip) - 1}/{len(clip)}"
            return response

    stored = await fetched(shelved(tmp_path, Odd(clip, 1000)), 1 if kind == "ignored" else 2)
    assert kept(stored) == clip


def test_runs_may_start_at_once(tmp_path: Path) -> None:
    """Two runs of one process, or of two containers with the same process id, try the same folder side by side."""
    with ThreadPoolExecutor(2) as runs:
        for _ in runs.map(prepare, [str(tmp_path / "videos")] * 400):
            pass
    assert list((tmp_path / "videos").iterdir()) == []


def test_old_beginnings_are_swept_away(tmp_path: Path) -> None:
    """What is left of a video that nobody can fetch any more goes when a run starts; files of yours stay."""
    for name in ("old.mp4.part", "new.mp4.part", "old.mp4"):
        (tmp_path / name).touch()
    os.utime(tmp_path / "old.mp4.part", (0, 0))
    os.utime(tmp_path / "old.mp4", (0, 0))
    prepare(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"new.mp4.part", "old.mp4"}


async def test_a_published_video_is_never_written_into(tmp_path: Path, clip: bytes) -> None:
    """A crash between a video's appearing and the end of its beginning leaves one file under two names: it stays."""
    host = Breaking(clip)
    stored = await fetch(shelved(tmp_path, host))
    (tmp_path / "videos" / Origin(name="a.mp4", key=KEY, task_id="t").part).hardlink_to(stored.output)
    breaking = shelved(tmp_path, Breaking(clip, 10))
    with pytest.raises(DownloadError):
        await fetch(breaking)
    assert kept(stored) == clip
    again = await fetch(breaking)
    assert again.output == stored.output


# ------------------------------------------------------------------------------------------------- places


async def test_names_may_be_in_folders(tmp_path: Path, clip: bytes) -> None:
    """A name with slashes is a file in folders, which are made."""
    stored = await fetch(shelved(tmp_path, Shelf(clip)), "red/2026/a.mp4")
    assert Path(stored.output) == tmp_path / "videos" / "red" / "2026" / "a.mp4"
    assert kept(stored) == clip


async def test_a_file_url_is_a_folder(tmp_path: Path, clip: bytes) -> None:
    """`file://` names a folder of this machine."""
    (tmp_path / "videos").mkdir()
    videos = VideoStore(f"file://{tmp_path}/videos", service_host=HOST, transport=Shelf(clip))
    stored = await fetch(videos)
    assert stored.output == str(tmp_path / "videos" / "a.mp4")


@pytest.mark.parametrize("where", ["s3://", "s3://bucket/x?y", "s3://user:secret@bucket/x", "s3:///"])
def test_what_is_no_place_is_said_so(where: str) -> None:
    """A URL without a bucket, or with parameters or credentials, is refused, and no secret is shown."""
    with pytest.raises(UsageError, match="is no place for videos") as caught:
        prepare(where)
    assert "secret" not in str(caught.value)


@pytest.mark.xdist_group("buckets")
class TestBucket:
    """Videos in a bucket of a real store, over a port."""

    @pytest.fixture(autouse=True)
    def _temporary(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "tmp").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    async def test_a_video_appears_once(self, tmp_path: Path, store: Store, clip: bytes) -> None:
        """A video is uploaded whole under its name; the same again uploads nothing; nothing is left on the disk."""
        videos = VideoStore("s3://out/clips/", service_host=HOST, transport=Breaking(clip))
        for _ in range(2):
            stored = await fetch(videos)
            assert stored.output == "s3://out/clips/a.mp4"
        assert store.get("out", "clips/a.mp4") == clip
        assert store.requests("PUT", "/out/clips/a.mp4") == 1
        assert not [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()]

    async def test_another_object_is_never_replaced(self, store: Store, clip: bytes) -> None:
        """An object of the same name stays; the item's key goes into the name, the same each time."""
        store.put("out", "a.mp4", b"mine")
        videos = VideoStore("s3://out", service_host=HOST, transport=Breaking(clip))
        for _ in range(2):
            stored = await fetch(videos, key="0123456789abcdef")
            assert stored.output == "s3://out/a-01234567.mp4"
        assert store.get("out", "a.mp4") == b"mine"
        assert sorted(store.keys("out")) == ["a-01234567.mp4", "a.mp4"]

    async def test_an_upload_that_fails_keeps_what_came(self, store: Store, clip: bytes) -> None:
        """When the bucket refuses, the video waits on the disk, and only the upload is done again."""
        host = Breaking(clip)
        videos = VideoStore("s3://out", service_host=HOST, transport=host)
        store.faults.append(Fault("status", "PUT", "a.mp4", times=99, status=403))
        with pytest.raises(StorageError, match="can't be written"):
            await fetch(videos)
        store.faults.clear()
        stored = await fetch(VideoStore("s3://out", service_host=HOST, transport=host))
        assert store.get("out", "a.mp4") == clip
        assert host.sent == len(clip) + 1
        assert stored.sha256 == hashlib.sha256(clip).hexdigest()

    def test_it_is_tried_before_anything_is_paid(self, store: Store) -> None:
        """A bucket that can be written passes and nothing is left in it; one that can't is refused in one line."""
        prepare("s3://out/clips")
        assert store.keys("out") == []
        for name in ("DELETE", "PUT"):
            store.faults.append(Fault("status", name, "/out/", times=99, status=403))
            if name == "DELETE":
                prepare("s3://out/clips")
        with pytest.raises(StorageError, match="can't be written"):
            prepare("s3://out/clips")

    def test_a_folder_of_another_user_is_not_used(self, tmp_path: Path, store: Store) -> None:
        """Beginnings of videos are not put where others could change them."""
        assert store.keys("out") == []
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "tmp" / f"wanbatch-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StorageError, match="not ours alone"):
            prepare("s3://out")
