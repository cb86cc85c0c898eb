"""Inputs are looked at over real sockets, with few bytes, and whatever a server does ends in one clear line."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import socket
import struct
import zlib
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import av
import fsspec
import httpx
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wanbatch.buckets import stores
from wanbatch.errors import ProbeError
from wanbatch.probe import Probed, Prober, problems

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    Answer = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]

SECRET = "Signature=s3cr3t&Expires=1"


@dataclass(frozen=True)
class Request:
    """What the server saw."""

    path: str
    host: str
    start: int
    end: int


@dataclass
class Origin:
    """A server on a real port that answers each path its own way, and counts what it sends."""

    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    sent: int = 0
    port: int = 0

    def url(self, path: str) -> str:
        """Give a path's signed URL."""
        return f"http://127.0.0.1:{self.port}{path}?{SECRET}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            wanted = re.search(r"(?im)^range: bytes=(\d+)-(\d+)", head)
            host = re.search(r"(?im)^host: (\S+)", head)
            assert wanted
            assert host
            path = head.split()[1].partition("?")[0]
            request = Request(path, host[1], int(wanted[1]), int(wanted[2]))
            self.requests.append(request)
            await self.answers[path](request, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, as it may
        finally:
            writer.close()

    def file(self, data: bytes) -> Answer:
        """Serve bytes with ranges."""

        async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
            piece = data[request.start : request.end + 1]
            if not piece:
                writer.write(response("416 Range Not Satisfiable", b""))
                return
            last = request.start + len(piece) - 1
            header = f"Content-Range: bytes {request.start}-{last}/{len(data)}"
            writer.write(response("206 Partial Content", piece, header))
            self.sent += len(piece)

        return answer


def response(status: str, body: bytes, *headers: str) -> bytes:
    """Write an answer with its length."""
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers])
    return head.encode() + b"\r\n\r\n" + body


def says(status: str, body: bytes = b"", *headers: str) -> Answer:
    """Answer the same whatever is asked."""

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response(status, body, *headers))

    return answer


@asynccontextmanager
async def origin() -> AsyncIterator[Origin]:
    """Serve on loopback for a while."""
    made = Origin()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@asynccontextmanager
async def prober(**settings: Any) -> AsyncIterator[Prober]:
    """Give a prober in a hurry."""
    made = Prober(**{"per_host_rate": 1000.0, "timeout_s": 10.0, **settings})
    try:
        yield made
    finally:
        await made.aclose()


async def complaint(url: str, kind: Any = "video", **settings: Any) -> str:
    """Give the one line a probe ends in; it never shows the signature."""
    async with prober(**settings) as made:
        with pytest.raises(ProbeError) as caught:
            await made.probe(url, kind)
    line = str(caught.value)
    assert "\n" not in line
    assert "s3cr3t" not in line
    return line


def silence() -> AudioFrame:
    """Give a moment without sound."""
    frame = AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 48000, 0
    return frame


def clip(
    form: str = "mp4", *, frames: int = 30, rotation: int = 0, sound: bool = False, **options: str
) -> bytes:
    """Give a small clip's bytes."""
    with TemporaryDirectory() as folder:
        path = (
            Path(folder) / f"clip.{form}"
        )  # a real file, for FFmpeg reads it again to put the index in front
        write_clip(path, frames=frames, rotation=rotation, sound=sound, **options)
        return path.read_bytes()


def write_clip(path: Path, *, frames: int, rotation: int, sound: bool, **options: str) -> None:
    """Write grey pictures, ten a second, that grow lighter."""
    with av.open(str(path), "w", container_options=options) as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        heard = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        for number in range(frames):
            frame = VideoFrame(320, 240, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([number % 256]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if heard:
            container.mux(heard.encode(silence()))
            container.mux(heard.encode(None))


def heavy_clip(size: int) -> bytes:
    """Give a clip of about `size` bytes whose index stands at its end, behind one vast box of pictures."""
    light = clip()
    at = light.index(b"mdat") - 4
    free = struct.pack(">I4s", size, b"free") + bytes(size - 8)
    moved = struct.unpack(">I", light[at : at + 4])[0]
    # The free box lies behind the pictures, so every offset in the index stays right.
    return light[: at + moved] + free + light[at + moved :]


def picture(form: str, mode: str = "RGB", size: tuple[int, int] = (300, 280), **options: Any) -> bytes:
    """Give an image's bytes."""
    target = io.BytesIO()
    Image.new(mode, size).save(target, form, **options)
    return target.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """Give a tiny PNG that says it is huge."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"0")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, data)
    )


GOOD = Probed("video", "mp4", "h264", 1280, 720, Decimal("5.02"), 1_000_000, has_alpha=False, has_audio=True)
GOOD_IMAGE = Probed("image", "png", None, 512, 512, None, 10_000, has_alpha=False, has_audio=False)


# ---------------------------------------------------------------------------------------------------- the facts


@given(
    st.builds(
        Probed,
        kind=st.sampled_from(["video", "image"]),
        format=st.text(max_size=8),
        codec=st.none() | st.text(max_size=8),
        width=st.integers(0, 10**6),
        height=st.integers(0, 10**6),
        duration=st.none() | st.decimals(0, 10**6, places=2),
        size=st.none() | st.integers(0, 10**12),
        has_alpha=st.booleans(),
        has_audio=st.booleans(),
    )
)
def test_probed_survives_json(probed: Probed) -> None:
    """What the journal keeps comes back equal, durations exact."""
    assert Probed.from_json(probed.to_json()) == probed
    assert json.loads(probed.to_json())["width"] == probed.width


@pytest.mark.parametrize(
    "change",
    [
        {"format": "mov"},
        {"duration": Decimal(2)},
        {"duration": Decimal(10)},
        {"width": 240, "height": 240},
        {"width": 240, "height": 1920},
        {"width": 4096, "height": 512},
        {"size": 100 * 1024 * 1024},
        {"size": None},
    ],
)
def test_a_video_on_the_limits_has_no_problems(change: dict[str, Any]) -> None:
    """Both ends of every range belong to it; an unknown size is not held against a video."""
    assert problems(replace(GOOD, **change), "video") == []


@pytest.mark.parametrize(
    ("change", "value", "rule"),
    [
        ({"format": "3gp"}, "3gp", "takes no such videos"),
        ({"duration": Decimal("1.99")}, "1.99 s", "2 to 10 s"),
        ({"duration": Decimal("10.01")}, "10.01 s", "2 to 10 s"),
        ({"width": 239}, "239x720", "240 to 4096"),
        ({"height": 4097}, "1280x4097", "240 to 4096"),
        ({"width": 2160, "height": 268}, "2160x268", "1:8 and 8:1"),
        ({"size": 100 * 1024 * 1024 + 1}, "100.0 MB", "at most 100 MB"),
    ],
)
def test_each_broken_limit_of_a_video_is_one_problem(change: dict[str, Any], value: str, rule: str) -> None:
    """A problem names the column, what was found and the rule."""
    (problem,) = problems(replace(GOOD, **change), "video")
    assert (problem.column, problem.value) == ("video", value)
    assert rule in problem.rule


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"format": "gif"}, "takes no such images"),
        ({"width": 8001, "height": 2000}, "240 to 8000"),
        ({"size": 21 * 1024 * 1024}, "at most 20 MB"),
        ({"has_alpha": True}, "no alpha"),
    ],
)
def test_each_broken_limit_of_an_image_is_one_problem(change: dict[str, Any], rule: str) -> None:
    """Images have their own limits, alpha among them for PNG."""
    (problem,) = problems(replace(GOOD_IMAGE, **change), "reference_image_1")
    assert rule in problem.rule
    assert problems(replace(GOOD_IMAGE, format="webp", has_alpha=True), "reference_image_1") == []


# -------------------------------------------------------------------------------------------------- good inputs


async def test_a_clip_over_http_is_told_by_its_bytes() -> None:
    """Container, codec, sides, duration, size and sound are the file's, whatever its name says."""
    data = clip(sound=True)
    async with origin() as server, prober() as made:
        server.answers["/x.txt"] = server.file(data)
        probed = await made.probe(server.url("/x.txt"), "video")
    assert probed == Probed(
        "video", "mp4", "h264", 320, 240, Decimal("3.00"), len(data), has_alpha=False, has_audio=True
    )


async def test_a_heavy_clip_with_its_index_at_the_end_costs_few_bytes() -> None:
    """50 MB are probed with less than 256 KB, in a handful of requests."""
    data = heavy_clip(50 * 1024 * 1024)
    async with origin() as server, prober() as made:
        server.answers["/clip.mp4"] = server.file(data)
        probed = await made.probe(server.url("/clip.mp4"), "video")
    assert (probed.duration, probed.size) == (Decimal("3.00"), len(data))
    assert server.sent < 256 * 1024
    assert len(server.requests) <= 4


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov+default_base_moof"])
async def test_every_way_to_lay_out_an_mp4_is_read(flags: str) -> None:
    """With the index in front, or in fragments that no index names."""
    async with origin() as server, prober() as made:
        server.answers["/clip.mp4"] = server.file(clip(frames=60, movflags=flags, g="10"))
        assert (await made.probe(server.url("/clip.mp4"), "video")).duration == Decimal("6.00")


async def test_a_mov_is_a_mov() -> None:
    """The brand tells MOV from MP4."""
    async with origin() as server, prober() as made:
        server.answers["/clip"] = server.file(clip("mov", rotation=90))
        probed = await made.probe(server.url("/clip"), "video")
    assert (probed.format, probed.width, probed.height) == ("mov", 320, 240)


async def test_a_server_without_ranges_is_read_once() -> None:
    """A plain 200 answer is enough when the file is small."""
    data = clip()
    async with origin() as server, prober() as made:
        server.answers["/clip.mp4"] = says("200 OK", data)
        probed = await made.probe(server.url("/clip.mp4"), "video")
    assert (probed.duration, probed.size) == (Decimal("3.00"), len(data))
    assert len(server.requests) == 1


async def test_a_server_without_ranges_or_length_is_read_to_the_bound() -> None:
    """The index in front is found in the first bytes of an endless stream; its size stays unknown."""
    data = clip(movflags="faststart")

    async def endless(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + data)
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async with origin() as server, prober(max_bytes=1024 * 1024) as made:
        server.answers["/clip.mp4"] = endless
        probed = await made.probe(server.url("/clip.mp4"), "video")
    assert (probed.duration, probed.size) == (Decimal("3.00"), None)


@pytest.mark.parametrize(
    ("form", "mode", "options", "told", "alpha"),
    [
        ("JPEG", "RGB", {}, "jpeg", False),
        ("PNG", "RGB", {}, "png", False),
        ("PNG", "RGBA", {}, "png", True),
        ("PNG", "P", {"transparency": 0}, "png", True),
        ("BMP", "RGB", {}, "bmp", False),
        ("WEBP", "RGB", {}, "webp", False),
        ("WEBP", "RGB", {"lossless": True}, "webp", False),
        ("WEBP", "RGBA", {"lossless": True}, "webp", True),
        ("WEBP", "RGB", {"exif": b"Exif\0\0" + bytes(9)}, "webp", False),
        ("GIF", "P", {}, "gif", False),
    ],
)
async def test_an_image_is_told_by_its_header(
    form: str, mode: str, options: Any, told: str, *, alpha: bool
) -> None:
    """Format, sides and alpha of every kind of image are read."""
    data = picture(form, mode, **options)
    async with origin() as server, prober() as made:
        server.answers["/i"] = server.file(data)
        probed = await made.probe(server.url("/i"), "image")
    assert (probed.format, probed.width, probed.height, probed.size) == (told, 300, 280, len(data))
    assert probed.has_alpha is alpha


async def test_a_large_image_is_told_by_its_first_block() -> None:
    """The pixels of a 12 MB picture are not fetched."""
    async with origin() as server, prober() as made:
        server.answers["/i.bmp"] = server.file(picture("BMP", size=(2000, 2000)))
        probed = await made.probe(server.url("/i.bmp"), "image")
    assert (probed.width, probed.height) == (2000, 2000)
    assert server.sent <= 64 * 1024


async def test_local_files_data_urls_and_buckets_are_read(tmp_path: Path) -> None:
    """The same facts come from a path, from data in the URL and from an object in a bucket."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip())
    data = "data:image/png;base64," + base64.b64encode(picture("PNG")).decode()
    async with prober() as made:
        local = await made.probe(str(path), "video")
        inline = await made.probe(data, "image")
        with bucket_in_memory() as bucket:
            bucket.pipe("/bucket/clip.mp4", heavy_clip(10 * 1024 * 1024))
            kept = await made.probe("gs://bucket/clip.mp4", "video")
    assert (local.duration, local.size) == (Decimal("3.00"), path.stat().st_size)
    assert (inline.format, inline.width) == ("png", 300)
    assert kept.duration == Decimal("3.00")


class Bucket(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A bucket in memory, found under `gs://`."""

    protocol = "gs"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("gs://").strip("/")


@contextmanager
def bucket_in_memory() -> Iterator[Bucket]:
    """Let `gs://` be an empty bucket in memory for a while."""
    fsspec.register_implementation("in-memory", Bucket, clobber=True)
    MemoryFileSystem.store.clear()
    stores.store_of.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(stores._STORES, "gs", lambda _: stores.Store("in-memory"))
        yield Bucket()
    stores.store_of.cache_clear()


async def test_many_inputs_are_probed_together() -> None:
    """More probes than places all get done, and no more than the places are under way at once."""
    data, under_way, most = clip(), 0, 0
    async with origin() as server, prober(concurrency=3) as made:
        plain = server.file(data)

        async def slowly(request: Request, writer: asyncio.StreamWriter) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.01)
            await plain(request, writer)
            under_way -= 1

        server.answers["/clip.mp4"] = slowly
        found = await asyncio.gather(*(made.probe(server.url("/clip.mp4"), "video") for _ in range(20)))
    assert {probed.duration for probed in found} == {Decimal("3.00")}
    assert 1 < most <= 3


async def test_a_server_out_of_sorts_is_asked_again() -> None:
    """One 503 does not cost an item its place."""
    async with origin() as server, prober() as made:
        good = server.file(clip())

        async def moody(request: Request, writer: asyncio.StreamWriter) -> None:
            await (says("503 Busy", b"", "Retry-After: 0") if len(server.requests) == 1 else good)(
                request, writer
            )

        server.answers["/clip.mp4"] = moody
        assert (await made.probe(server.url("/clip.mp4"), "video")).duration == Decimal("3.00")


# ------------------------------------------------------------------------------------------------- bad inputs


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "is empty"),
        (b"<!doctype html><title>Log in</title>", "a web page"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.ts\n", "a playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "something else"),
        (b"\x1aE\xdf\xa3" + bytes(100), "WebM"),
        (bytes(100_000), "something else"),
        (b"\x00\x00\x00\x01moov\xff\xff\xff\xff\xff\xff\xff\xff", "something else"),
        (b"\x00\x00\x00\x08free" * 1000, "something else"),
        (b"\x00\x00\x10\x00moov" + bytes(4088), "no picture"),
        (clip()[:2000], "something else"),
    ],
)
@pytest.mark.parametrize("ranges", [True, False])
async def test_what_is_no_video_is_one_line(body: bytes, told: str, *, ranges: bool) -> None:
    """Whatever the bytes are, the line says what they look like."""
    async with origin() as server:
        server.answers["/clip.mp4"] = server.file(body) if ranges else says("200 OK", body)
        line = await complaint(server.url("/clip.mp4"))
    assert told in line
    assert f"127.0.0.1:{server.port}/clip.mp4" in line


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "is empty"),
        (b"<html>", "a web page"),
        (picture("PNG")[:20], "PNG"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "not a JPEG"),
        (b"RIFF\x10\0\0\0WEBPVP8?" + bytes(40), "not a JPEG"),
        (png_claiming(200_000, 200_000), "far more pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\n", "something else"),
    ],
)
async def test_what_is_no_image_is_one_line(body: bytes, told: str) -> None:
    """Bombs and garbage end the same way, without a pixel being decoded."""
    async with origin() as server:
        server.answers["/i.png"] = server.file(body)
        assert told in await complaint(server.url("/i.png"), "image")


async def test_a_clip_cut_off_behind_its_index_is_noticed() -> None:
    """The index in front promises bytes that are not there."""
    data = clip(movflags="faststart")
    async with origin() as server:
        server.answers["/clip.mp4"] = server.file(data[:-100])
        assert "is cut off" in await complaint(server.url("/clip.mp4"))


async def test_sound_alone_is_no_video() -> None:
    """An MP4 without a picture is turned down."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        container.mux(stream.encode(silence()))
        container.mux(stream.encode(None))
    async with origin() as server:
        server.answers["/clip.mp4"] = server.file(target.getvalue())
        assert "no picture" in await complaint(server.url("/clip.mp4"))


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("403 Forbidden", "signature has expired"),
        ("404 Not Found", "is not there"),
        ("418 Teapot", "HTTP 418"),
        ("503 Busy", "HTTP 503"),
        ("204 No Content", "HTTP 204"),
    ],
)
async def test_each_refusal_of_a_server_is_told(status: str, told: str) -> None:
    """The line says what the server said and what to do."""
    async with origin() as server:
        server.answers["/clip.mp4"] = says(status, b"", "Retry-After: 0")
        assert told in await complaint(server.url("/clip.mp4"))


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        (["Content-Range: bytes 7-26/100"], "another range"),
        (["Content-Range: lines 0-19/100"], "another range"),
        ([], "another range"),
        (["Content-Range: bytes 0-19/100", "Content-Encoding: gzip"], "compressed"),
    ],
)
async def test_an_answer_that_is_not_the_asked_range_is_refused(headers: list[str], told: str) -> None:
    """Bytes from anywhere else, or packed, are never taken for the file's."""
    async with origin() as server:
        server.answers["/clip.mp4"] = says("206 Partial Content", bytes(20), *headers)
        assert told in await complaint(server.url("/clip.mp4"))


async def test_an_index_beyond_the_bound_is_not_chased() -> None:
    """A server without ranges is not read to the end of a big file."""
    async with origin() as server:
        server.answers["/clip.mp4"] = says("200 OK", heavy_clip(2 * 1024 * 1024))
        line = await complaint(server.url("/clip.mp4"), max_bytes=1024 * 1024)
    assert "only from the start" in line


async def test_a_file_of_nothing_but_headers_is_left_after_the_bound() -> None:
    """A million tiny boxes cost no more bytes than the bound."""
    async with origin() as server:
        server.answers["/clip.mp4"] = server.file(b"\x00\x00\x00\x08free" * 250_000)
        assert "more are not read" in await complaint(server.url("/clip.mp4"), max_bytes=256 * 1024)
    assert server.sent <= 256 * 1024


async def test_a_range_without_an_end_is_left_when_enough_has_come() -> None:
    """A 206 that goes on for ever gives only what was asked for."""

    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 206 OK\r\nConnection: close\r\nContent-Range: bytes {request.start}-{request.end}/*\r\n\r\n"
        writer.write(head.encode())
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async with origin() as server:
        server.answers["/clip.mp4"] = endless
        assert "not a whole MP4" in await complaint(server.url("/clip.mp4"), max_bytes=256 * 1024)


async def test_a_server_that_drips_is_left_in_time() -> None:
    """A byte now and then does not hold a place for ever, and the next probe goes through."""

    async def drip(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with origin() as server, prober(timeout_s=0.3, concurrency=1) as made:
        server.answers |= {"/slow.mp4": drip, "/good.png": server.file(picture("PNG"))}
        with pytest.raises(ProbeError, match=r"took more than 0\.3 s"):
            await made.probe(server.url("/slow.mp4"), "video")
        assert (await made.probe(server.url("/good.png"), "image")).format == "png"


async def test_a_port_nobody_listens_on_is_one_line() -> None:
    """No connection is a line with the reason."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert "connect error" in await complaint(
            f"http://127.0.0.1:{taken.getsockname()[1]}/clip.mp4?{SECRET}"
        )


@pytest.mark.parametrize(
    ("medium", "told"),
    [
        ("file:///etc/passwd", "a scheme that is not read"),
        ("concat://a.mp4|b.mp4", "a scheme that is not read"),
        ("ftp://host/clip.mp4", "a scheme that is not read"),
        ("http://", "give an http(s) URL"),
        ("http://[::1/clip.mp4", "not one"),
        ("oss://dashscope-instant/a/b.mp4", "only the service"),
        ("data:image/png;base64,!!!!", "not base64"),
        ("concat:a.mp4", "no such file"),
        ("no/such/clip.mp4", "no such file"),
        (".", "no such file"),
        ("x" * 5000, "give a readable file"),
        ("nul\0 and\nnew line.mp4", "no such file"),
    ],
)
async def test_what_can_not_be_read_is_one_line(medium: str, told: str) -> None:
    """Schemes, paths and data that lead nowhere are told before anything is opened."""
    assert told in await complaint(medium)


async def test_a_bucket_that_can_not_be_read_is_one_line() -> None:
    """A missing object names itself and what to look at."""
    with bucket_in_memory():
        assert "is not there" in await complaint("gs://bucket/none.mp4")


# -------------------------------------------------------------------------------------------------- redirects


class Redial(httpx.AsyncHTTPTransport):
    """Every host is the one server on loopback, as if its names were in the DNS."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Dial loopback; the Host header keeps the name."""
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return await super().handle_async_request(request)


ADDRESSES = {
    "public.example": "93.184.216.34",
    "cdn.example": "2606:2800:220:1::",
    "inside.example": "10.0.0.5",
    "mapped.example": "::ffff:169.254.169.254",
    "shared.example": "100.64.0.1",
    "127.0.0.1": "127.0.0.1",
    "[::1]": "::1",
    "::1": "::1",
    "169.254.169.254": "169.254.169.254",
}


async def look_up(host: str, _: int) -> list[str]:
    """Stand in for the DNS."""
    if host not in ADDRESSES:
        raise socket.gaierror(host)
    return [ADDRESSES[host]]


async def led(
    target: str, start: str = "http://public.example/a", **settings: Any
) -> tuple[Probed | str, set[str]]:
    """Probe a URL that redirects to another; gives the outcome and the hosts that were asked."""
    async with origin() as server:
        server.answers |= {"/a": says("302 Found", b"", f"Location: {target}"), "/b": server.file(clip())}
        async with (
            httpx.AsyncClient(transport=Redial(server.port)) as http,
            prober(http=http, resolve=look_up, **settings) as made,
        ):
            try:
                outcome: Probed | str = await made.probe(f"{start}?{SECRET}", "video")
            except ProbeError as error:
                outcome = str(error)
        return outcome, {request.host for request in server.requests}


@pytest.mark.parametrize("target", ["http://cdn.example/b", "/b", "//cdn.example/b", "b"])
async def test_a_redirect_between_public_hosts_is_followed(target: str) -> None:
    """Whole, host-relative and path-relative locations lead to the clip."""
    outcome, _ = await led(target)
    assert isinstance(outcome, Probed)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "169.254.169.254",
        "inside.example",
        "mapped.example",
        "shared.example",
        "127.0.0.1:8080",
    ],
)
async def test_no_redirect_leads_from_a_public_url_inside(host: str) -> None:
    """Loopback, link-local, private and shared addresses are never asked, by whatever name."""
    outcome, asked = await led(f"http://{host}/b")
    assert "private address" in str(outcome)
    assert asked == {"public.example"}


async def test_a_private_url_that_the_user_wrote_may_redirect_inside() -> None:
    """The danger is the stranger's redirect, not the user's own network; a knob allows the rest."""
    assert isinstance((await led("http://127.0.0.1/b", start="http://inside.example/a"))[0], Probed)
    assert isinstance((await led("http://127.0.0.1/b", allow_private=True))[0], Probed)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("file:///etc/passwd", "leads to a file address"),
        ("ftp://cdn.example/b", "leads to a ftp address"),
        ("http://nowhere.example/b", "no host nowhere.example"),
        ("http://[::1/b", "can't be fetched"),
        ("http://[", "no host"),
        ("http://public.example/a", "redirects more than 5 times"),
    ],
)
async def test_a_redirect_to_nowhere_is_one_line(target: str, told: str) -> None:
    """Other schemes, unknown hosts, broken URLs and loops end in a line without the signature."""
    outcome, _ = await led(target)
    assert told in str(outcome)
    assert "s3cr3t" not in str(outcome)


async def test_later_reads_go_straight_to_where_the_redirect_led() -> None:
    """One walk through the redirects per probe is enough."""
    async with origin() as server, prober() as made:
        server.answers |= {
            "/a": says("307 There", b"", "Location: /b"),
            "/b": server.file(heavy_clip(1024 * 1024)),
        }
        await made.probe(server.url("/a"), "video")
        assert [request.path for request in server.requests].count("/a") == 1
        assert len(server.requests) > 2
