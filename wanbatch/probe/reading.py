"""What the bytes of a video or image say it is. Blocking; only headers are read and no picture is decoded.

Files come from anywhere, so FFmpeg gets one demuxer and no protocol: a playlist is just a broken MP4 to it, and
nothing inside a file can make it open another one.
"""

from __future__ import annotations

import io
import struct
import warnings
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO

import av
from PIL import Image, UnidentifiedImageError

from wanbatch.errors import ProbeError
from wanbatch.probe.facts import Probed

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# GIF and TIFF are read only to be named when they are turned down.
_IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF")
_OPTIONS = {
    "protocol_whitelist": "none",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2",
}
_ATTACHED_PICTURE = av.stream.Disposition.attached_pic
_KNOWN_STARTS = {
    b"\x1aE\xdf\xa3": "WebM or Matroska",
    b"RIFF": "AVI or WAV",
    b"#EXTM3U": "a playlist",
    b"FLV": "Flash video",
    b"GIF8": "a GIF",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive",
}
_WEBP_HEAD = 30
_BOX_HEAD = 16
_LONG_BOX = 1
"""In place of a box's length: the length is the eight bytes after its name."""
_LONGEST_INDEX = 16 * 1024 * 1024
_BROKEN = (ValueError, SyntaxError, OSError, EOFError, IndexError, KeyError, struct.error, OverflowError)
"""What the decoders raise on bytes that are not what they claim."""

# Only headers are read here, so a picture that would fill the memory is just one with sides out of bounds.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_video(file: BinaryIO, name: str) -> Probed:
    """Read an MP4's or MOV's header; raises `ProbeError` when it is neither, or not whole."""
    if not (start := _start(file)):
        raise ProbeError(f"{name}: is empty; upload it again")
    try:
        with av.open(
            _index(file), "r", format="mov", container_options=_OPTIONS, metadata_errors="replace"
        ) as container:
            return _video_facts(container, file, name)
    except (av.FFmpegError, *_BROKEN):
        raise ProbeError(
            f"{name}: is {_guess(start)}, not a whole MP4 or MOV video; give one, or upload it again if it was cut off"
        ) from None


def read_image(file: BinaryIO, name: str) -> Probed:
    """Read an image's header; raises `ProbeError` when it is none."""
    if not (start := _start(file)):
        raise ProbeError(f"{name}: is empty; upload it again")
    try:
        if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
            return _webp_facts(start, _size(file))
        with Image.open(file, formats=_IMAGE_FORMATS) as image:
            form = (image.format or "").lower()
            return Probed(
                kind="image",
                format="jpeg" if form == "mpo" else form,  # a JPEG with more pictures behind the first
                codec=None,
                width=image.width,
                height=image.height,
                duration=None,
                size=_size(file),
                has_alpha=image.has_transparency_data,
                has_audio=False,
            )
    except Image.DecompressionBombError:
        raise ProbeError(f"{name}: has far more pixels than the service takes; scale it down") from None
    except (UnidentifiedImageError, *_BROKEN):
        raise ProbeError(
            f"{name}: is {_guess(start)}, not a JPEG, PNG, BMP or WEBP image; give an image"
        ) from None


def _index(file: BinaryIO) -> BinaryIO:
    """Leave out the pictures, since FFmpeg would fetch a whole one, which may be a megabyte.

    What a file in fragments is stands all over it: such a file is given back as it is.
    """
    kept, at = b"", 0
    while head := file.read(_BOX_HEAD):
        length, kind = struct.unpack(">I4s", head[:8])
        if length == _LONG_BOX:
            length = int.from_bytes(head[8:], "big")
        file.seek(at)
        if kind in {b"ftyp", b"moov"}:
            if length > _LONGEST_INDEX:
                raise ValueError("no index is that long")
            kept += file.read(length)
        if kind == b"moov":
            break
        if length < _BOX_HEAD // 2:
            raise ValueError("no index")
        at += length
        file.seek(at)
    file.seek(0)
    return file if b"mvex" in kept else io.BytesIO(kept)


def _video_facts(container: InputContainer, file: BinaryIO, name: str) -> Probed:
    stream = next((s for s in container.streams.video if not s.disposition & _ATTACHED_PICTURE), None)
    # PyAV's types hide that a codec FFmpeg does not know leaves no context.
    if stream is None or getattr(stream, "codec_context", None) is None:
        raise ProbeError(f"{name}: has no picture that can be read; give a video, in H.264 to be safe")
    size = _size(file)
    if size is not None and _last_byte(container) > size:
        raise ProbeError(f"{name}: is cut off, its index names bytes after its end; upload it again")
    if not (seconds := _seconds(container, stream)):
        raise ProbeError(f"{name}: does not say how long it is; write it anew (ffmpeg -c copy)")
    return Probed(
        kind="video",
        format=_brand(container),
        codec=stream.codec.canonical_name,
        width=stream.width,
        height=stream.height,
        duration=Decimal(round(seconds * 100)).scaleb(-2),
        size=size,
        has_alpha=False,
        has_audio=bool(container.streams.audio),
    )


def _brand(container: InputContainer) -> str:
    """Name the container: one demuxer reads the whole family, the brand tells them apart."""
    brand = container.metadata.get("major_brand", "qt").strip()
    if brand.startswith(("3gp", "3g2")):
        return brand[:3]
    return "mov" if brand == "qt" else "mp4"


def _seconds(container: InputContainer, stream: VideoStream) -> Fraction:
    """Give how long the picture plays, 0 when nothing says so."""
    if stream.duration is not None and stream.time_base is not None:
        return stream.duration * stream.time_base
    if container.duration is not None:
        return Fraction(container.duration, av.time_base)
    # Written in fragments, as cameras and browsers do: every packet says how long it is.
    ends = [
        (packet.pts + (packet.duration or 0)) * packet.time_base
        for packet in container.demux(stream)
        if packet.pts is not None
    ]
    return max(ends, default=Fraction(0))


def _last_byte(container: InputContainer) -> int:
    """Give where the last sample in the index ends."""
    return max(
        (entry.pos + entry.size for stream in container.streams for entry in stream.index_entries), default=0
    )


def _webp_facts(start: bytes, size: int | None) -> Probed:
    """Read a WebP's first chunk, since Pillow would read the whole file.

    https://developers.google.com/speed/webp/docs/riff_container
    """
    chunk, body = start[12:16], start[20:_WEBP_HEAD]
    if len(start) < _WEBP_HEAD:
        raise ValueError("no WebP header")
    if chunk == b"VP8X":
        alpha = bool(body[0] & 0x10)
        width, height = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    elif chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        width, height, alpha = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    elif chunk == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", body[6:10]))
        alpha = False
    else:
        raise ValueError("no WebP header")
    return Probed("image", "webp", None, width, height, None, size, alpha, has_audio=False)


def _start(file: BinaryIO) -> bytes:
    start = file.read(512)
    file.seek(0)
    return start


def _size(file: BinaryIO) -> int | None:
    try:
        return file.seek(0, 2)
    except OSError:
        return None


def _guess(start: bytes) -> str:
    """Say what the first bytes look like."""
    if start.lstrip().startswith(b"<"):
        return "a web page"
    return next((what for magic, what in _KNOWN_STARTS.items() if start.startswith(magic)), "something else")
