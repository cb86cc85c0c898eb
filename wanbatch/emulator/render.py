"""What the emulator does instead of a model: really decode, cut, scale, filter and encode the clip.

Blocking; run it in a thread. The same job gives the same bytes on the same FFmpeg. Inputs are untrusted: files are
opened as streams with a short list of demuxers, so that no playlist inside one can make FFmpeg open anything else.
"""

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.container
import av.filter
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from wanbatch.emulator.looks import Chain, look

if TYPE_CHECKING:
    from av.filter.context import FilterContext

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf"
_SAFE = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
_IMAGES = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
_IMAGE_NAMES = {"MPO": "jpeg"}
"""Phones put several JPEGs into one file."""
_CODE = "InvalidParameter"
_BAD_VIDEO = "Invalid video file."
_BAD_IMAGE = "read image error."
_MAX_PIXELS = 8000 * 8000
_THREADS = 2
_TABLE = {
    "720P": {
        "16:9": (1280, 720),
        "9:16": (720, 1280),
        "1:1": (960, 960),
        "4:3": (1104, 832),
        "3:4": (832, 1104),
    },
    "1080P": {
        "16:9": (1920, 1080),
        "9:16": (1080, 1920),
        "1:1": (1440, 1440),
        "4:3": (1648, 1248),
        "3:4": (1248, 1648),
    },
}
_TURNS = {90: ("cclock",), 180: ("clock", "clock"), 270: ("clock",)}
_MP4 = {"movflags": "+faststart", "fflags": "+bitexact"}
_X264 = {"preset": "ultrafast", "crf": "26", "bf": "0", "maxrate": "10M", "bufsize": "10M"}
_AUDIO_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)

# Its bound lies above ours, which is checked before pixels are decoded.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class MediaError(Exception):
    """A media file the service would turn down, in the words it puts into a FAILED task."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video file is; sides as a viewer sees them, after rotation."""

    format: str
    codec: str
    width: int
    height: int
    duration: Decimal
    """Seconds of picture, to 0.01."""
    size: int
    """Bytes."""
    has_audio: bool


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image file's header says."""

    format: str
    width: int
    height: int
    has_alpha: bool
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class RenderJob:
    """One edit to render, parameters as the API names them; `duration` 0 keeps the input's."""

    video: Path
    references: tuple[Path, ...]
    prompt: str
    resolution: str
    ratio: str | None
    duration: int
    watermark: bool
    seed: int
    output: Path


def inspect_video(path: Path) -> VideoInfo:
    """Read a video's container and first frame; MediaError when it is no readable video. Checks no limits."""
    with _readable(path) as source:
        stream = source.streams.video[0]
        first = next(source.decode(stream))
        width, height = _upright(first)
        return VideoInfo(
            format=_format_name(source),
            codec=stream.codec_context.name,
            width=width,
            height=height,
            duration=_duration(source, stream),
            size=path.stat().st_size,
            has_audio=bool(source.streams.audio),
        )


def inspect_image(path: Path) -> ImageInfo:
    """Read an image's header, never its pixels; MediaError when it is no image Pillow knows."""
    with _opened_image(path) as image:
        return ImageInfo(
            format=_IMAGE_NAMES.get(image.format or "", (image.format or "").lower()),
            width=image.width,
            height=image.height,
            has_alpha=image.has_transparency_data,
            size=path.stat().st_size,
        )


def output_size(resolution: str, ratio: str | None, width: int, height: int) -> tuple[int, int]:
    """Give the output's sides in pixels: the published table, or the input's own ratio at the level's pixel count."""
    try:
        table = _TABLE[resolution]
        if ratio is not None:
            return table[ratio]
    except KeyError:
        raise MediaError(_CODE, "The type or value of resolution or ratio is out of definition.") from None
    pixels = math.prod(table["1:1"])
    return _even(math.sqrt(pixels * width / height)), _even(math.sqrt(pixels * height / width))


def render(job: RenderJob) -> VideoInfo:
    """Edit the job's video and write it as an H.264 MP4; give what was written. MediaError on unreadable media."""
    info = inspect_video(job.video)
    size = output_size(job.resolution, job.ratio, info.width, info.height)
    sticker = _sticker(job, size)
    with (
        _readable(job.video) as source,
        av.open(str(job.output), "w", format="mp4", container_options=_MP4) as target,
    ):
        cut = _Cut(
            Fraction(source.start_time or 0, av.time_base), Fraction(job.duration) if job.duration else None
        )
        picture = _Picture(
            source.streams.video[0],
            target,
            cut,
            size=size,
            chain=look(job.prompt, job.seed),
            sticker=sticker,
        )
        tracks: dict[int, _Picture | _Sound] = {picture.stream.index: picture}
        if source.streams.audio:
            sound = _Sound(source.streams.audio[0], target, cut)
            tracks[sound.stream.index] = sound
        for packet in source.demux([track.stream for track in tracks.values()]):
            if not cut.passed(packet.dts, packet.time_base):
                for frame in packet.decode():
                    tracks[packet.stream.index].take(frame)
        for track in tracks.values():
            track.finish()
    return inspect_video(job.output)


def tiny_clip(duration: Decimal, output: Path) -> None:
    """Write the smallest honest stand-in for a result: a grey 64x36 H.264 MP4 of `duration` seconds (to 0.01)."""
    ticks = int(duration * 100)
    with av.open(str(output), "w", format="mp4", container_options=_MP4) as target:
        stream = target.add_stream("libx264", rate=2, options=_X264)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = 64, 36, "yuv420p", 1
        stream.codec_context.time_base = Fraction(1, 100)
        stream.codec_context.flags |= Flags.frame_duration
        for pts in range(0, ticks, 50):
            frame = VideoFrame(64, 36, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([128]) * plane.buffer_size)
            frame.pts, frame.time_base, frame.duration = pts, Fraction(1, 100), min(50, ticks - pts)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a video; anything FFmpeg cannot make sense of, then or while it is read, is a MediaError."""
    try:
        # As a stream, for FFmpeg would read a protocol out of a path such as "concat:a.mp4".
        with path.open("rb") as file, av.open(file, "r", container_options=_SAFE) as source:
            if not source.streams.video:
                raise MediaError(_CODE, _BAD_VIDEO)
            yield source
    except (av.FFmpegError, StopIteration, ValueError, OSError) as error:
        raise MediaError(_CODE, _BAD_VIDEO) from error


@contextlib.contextmanager
def _opened_image(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=_IMAGES) as image:
            yield image
    except (UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError, OSError) as error:
        raise MediaError(_CODE, _BAD_IMAGE) from error


def _format_name(source: av.container.InputContainer) -> str:
    """Name the container: FFmpeg has one demuxer for MP4 and MOV, the brand tells them apart."""
    if "mp4" not in source.format.name:
        return source.format.name.partition(",")[0]
    return "mov" if source.metadata.get("major_brand", "qt").strip() == "qt" else "mp4"


def _duration(source: av.container.InputContainer, stream: VideoStream) -> Decimal:
    if stream.duration is not None and stream.time_base is not None:
        seconds = stream.duration * stream.time_base
    else:
        seconds = Fraction(source.duration or 0, av.time_base)
    return Decimal(round(seconds * 100)).scaleb(-2)


def _upright(frame: VideoFrame) -> tuple[int, int]:
    return (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)


def _even(side: float) -> int:
    return max(2, round(side / 2) * 2)


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where the output begins on the input's clock and how long it lasts, in seconds."""

    start: Fraction
    length: Fraction | None

    def passed(self, timestamp: int | None, base: Fraction | None) -> bool:
        if timestamp is None or base is None or self.length is None:
            return False
        return timestamp * base - self.start >= self.length


class _Picture:
    """The video track's way: upright, to size, the look, the sticker, H.264."""

    def __init__(
        self,
        stream: VideoStream,
        target: av.container.OutputContainer,
        cut: _Cut,
        *,
        size: tuple[int, int],
        chain: Chain,
        sticker: Image.Image | None,
    ) -> None:
        self.stream = stream
        self._target, self._cut, self._size, self._chain, self._sticker = target, cut, size, chain, sticker
        self._graph: av.filter.Graph | None = None
        stream.thread_count = _THREADS
        self._encoder = target.add_stream("libx264", rate=stream.average_rate or 25, options=_X264)
        self._encoder.width, self._encoder.height = size
        self._encoder.pix_fmt = "yuv420p"
        self._encoder.thread_count = _THREADS
        self._encoder.codec_context.flags |= Flags.frame_duration  # the last frame's length counts too
        if stream.time_base is not None:
            self._encoder.codec_context.time_base = stream.time_base

    def take(self, frame: object) -> None:
        """Send one decoded frame on, unless it lies past the cut."""
        if not isinstance(frame, VideoFrame) or self._cut.passed(frame.pts, frame.time_base):
            return
        if self._graph is None:
            self._graph = self._filters(frame.rotation % 360)
        self._graph.vpush(frame, at=0)
        self._drain(self._graph)

    def finish(self) -> None:
        """Empty the filters and the encoder; a clip without one picture is no video."""
        if self._graph is None:
            raise MediaError(_CODE, _BAD_VIDEO)
        self._graph.vpush(None, at=0)
        self._drain(self._graph)
        self._target.mux(self._encoder.encode(None))

    def _drain(self, graph: av.filter.Graph) -> None:
        for frame in _pulled(graph):
            assert isinstance(frame, VideoFrame)
            if frame.pts is None or frame.time_base is None:
                continue
            frame.pts -= round(self._cut.start / frame.time_base)
            if self._cut.length is not None:  # the last frame must not outlast the cut
                end = int(self._cut.length / frame.time_base)
                frame.duration = min(frame.duration, end - frame.pts)
            frame.pict_type = PictureType.NONE  # the encoder's own choice, not the source's
            self._target.mux(self._encoder.encode(frame))

    def _filters(self, rotation: int) -> av.filter.Graph:
        graph = av.filter.Graph()
        graph.threads = _THREADS
        width, height = self._size
        chain: Chain = (
            ("sidedata", "mode=delete:type=DISPLAYMATRIX"),
            *(("transpose", turn) for turn in _TURNS.get(rotation, ())),
            ("scale", f"{width}:{height}:force_original_aspect_ratio=increase:flags=bilinear:out_range=tv"),
            ("crop", f"{width}:{height}"),
            ("setsar", "1"),
            ("format", "yuv420p"),
            *self._chain,
            ("format", "yuv420p"),
        )
        last: FilterContext = graph.add_buffer(template=self.stream)
        for name, arguments in chain:
            step = graph.add(name, arguments or None)
            last.link_to(step)
            last = step
        overlay = None
        if self._sticker is not None:
            overlay = VideoFrame.from_bytes(self._sticker.tobytes(), width, height, "rgba")
            second = graph.add_buffer(
                width=width, height=height, format=overlay.format, time_base=self.stream.time_base
            )
            paste = graph.add("overlay", "format=yuv420")
            last.link_to(paste)
            second.link_to(paste, 0, 1)
            last = paste
        last.link_to(graph.add("buffersink"))
        graph.configure()
        if overlay is not None:
            overlay.pts = 0
            graph.vpush(overlay, at=1)
            graph.vpush(None, at=1)
        return graph


class _Sound:
    """The audio track's way: cut to the sample, AAC in mono or stereo."""

    def __init__(self, stream: AudioStream, target: av.container.OutputContainer, cut: _Cut) -> None:
        self.stream = stream
        self._target, self._cut = target, cut
        rate = stream.rate if stream.rate in _AUDIO_RATES else 48000
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        self._encoder = target.add_stream("aac", rate=rate, layout=layout)
        self._graph = av.filter.Graph()
        trim = f"start={float(cut.start)}" + (f":duration={float(cut.length)}" if cut.length else "")
        nodes = (
            self._graph.add_abuffer(template=stream),
            self._graph.add("atrim", trim),
            self._graph.add("asetpts", f"PTS-{float(cut.start)}/TB"),
            self._graph.add("aresample", "async=1:first_pts=0"),
            self._graph.add("aformat", f"sample_fmts=fltp:sample_rates={rate}:channel_layouts={layout}"),
            self._graph.add("abuffersink"),
        )
        self._graph.link_nodes(*nodes).configure()

    def take(self, frame: object) -> None:
        """Send one decoded frame on."""
        if isinstance(frame, AudioFrame):
            self._graph.push(frame)
            self._drain()

    def finish(self) -> None:
        """Empty the filters and the encoder."""
        self._graph.push(None)
        self._drain()
        self._target.mux(self._encoder.encode(None))

    def _drain(self) -> None:
        for frame in _pulled(self._graph):
            assert isinstance(frame, AudioFrame)
            self._target.mux(self._encoder.encode(frame))


def _pulled(graph: av.filter.Graph) -> Iterator[AudioFrame | VideoFrame]:
    """Yield what a graph has ready."""
    with contextlib.suppress(av.BlockingIOError, av.EOFError):
        while True:
            yield graph.pull()


def _sticker(job: RenderJob, size: tuple[int, int]) -> Image.Image | None:
    """Draw what lies over every frame: framed reference images and the watermark; None when there is neither."""
    if not job.references and not job.watermark:
        return None
    width, height = size
    unit = min(size) // 40
    canvas = Image.new("RGBA", size)
    left = unit
    for path in job.references:
        picture = _thumbnail(path, min(size) // 4)
        canvas.paste(picture, (left, unit))
        left += picture.width + unit
    if job.watermark:
        draw = ImageDraw.Draw(canvas)
        draw.text(
            (width - unit, height - unit),
            "AI-generated",
            font=ImageFont.load_default(unit * 1.5),
            fill=(255, 255, 255, 210),
            stroke_width=max(1, unit // 10),
            stroke_fill=(0, 0, 0, 140),
            anchor="rs",
        )
    return canvas


def _thumbnail(path: Path, side: int) -> Image.Image:
    """Shrink an image to fit a square of `side` pixels and put a white frame round it."""
    with _opened_image(path) as image:
        if image.width * image.height > _MAX_PIXELS:
            raise MediaError(_CODE, _BAD_IMAGE)
        image.draft("RGB", (side, side))  # lets JPEG decode at a fraction of its size
        small = ImageOps.contain(image.convert("RGB"), (side, side))
        return ImageOps.expand(small, border=max(2, side // 40), fill="white")
