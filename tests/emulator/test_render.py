"""The emulator's edits are real: what comes out is measured by decoding it."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wanbatch.emulator.looks import look
from wanbatch.emulator.render import (
    MediaError,
    RenderJob,
    inspect_image,
    inspect_video,
    output_size,
    render,
    tiny_clip,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Picture = npt.NDArray[Any]

FPS = 10


def write_clip(
    path: Path,
    *,
    size: tuple[int, int] = (320, 240),
    frames: int = 25,
    sound: bool = True,
    rotation: int = 0,
    bf: int = 0,
) -> Path:
    """Write a clip whose left half is red and whose right half is blue, growing lighter."""
    with av.open(str(path), "w") as target:
        picture = target.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "bf": str(bf)})
        picture.width, picture.height = size
        picture.pix_fmt = "yuv420p" if size[0] % 2 == 0 and size[1] % 2 == 0 else "yuv444p"
        if rotation:
            picture.set_display_rotation(rotation)
        heard = target.add_stream("aac", rate=48000, layout="stereo") if sound else None
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), 4 * number, np.uint8)
            pixels[:, : size[0] // 2, 0] = 200
            pixels[:, size[0] // 2 :, 2] = 200
            frame = VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            target.mux(picture.encode(frame))
            if heard:
                tone = np.sin(np.arange(4800) / 20).astype(np.float32)
                samples = AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
                samples.sample_rate, samples.pts = 48000, number * 4800
                target.mux(heard.encode(samples))
        target.mux(picture.encode(None))
        if heard:
            target.mux(heard.encode(None))
    return path


def job(video: Path, **changes: object) -> RenderJob:
    """Give a job with everything left at its default."""
    settings: dict[str, object] = {
        "references": (),
        "prompt": "clay",
        "resolution": "720P",
        "ratio": None,
        "duration": 0,
        "watermark": False,
        "seed": 1,
        "output": video.with_name("output.mp4"),
    }
    return RenderJob(video=video, **{**settings, **changes})  # type: ignore[arg-type]  # a test's own keywords


def pictures(path: Path) -> list[Picture]:
    """Decode every frame to RGB."""
    with av.open(str(path)) as clip:
        return [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]


def heard_seconds(path: Path) -> float:
    """Measure how long a file sounds."""
    with av.open(str(path)) as clip:
        return sum(frame.samples / frame.sample_rate for frame in clip.decode(audio=0))


def test_inspect_tells_a_videos_facts(tmp_path: Path) -> None:
    """Format, codec, sides, duration, size and sound are those of the file."""
    clip = write_clip(tmp_path / "clip.mp4")
    info = inspect_video(clip)
    assert (info.format, info.codec, info.width, info.height) == ("mp4", "h264", 320, 240)
    assert (info.duration, info.size, info.has_audio) == (Decimal("2.50"), clip.stat().st_size, True)
    assert inspect_video(write_clip(tmp_path / "clip.mov", sound=False)).format == "mov"
    assert not inspect_video(tmp_path / "clip.mov").has_audio


@pytest.mark.parametrize("content", [b"", b"<html>", b"#EXTM3U\n#EXTINF:1,\nother.mp4\n", bytes(5000)])
def test_what_is_no_video_is_a_media_error(tmp_path: Path, content: bytes) -> None:
    """Empty files, pages, playlists and zeros are told in the service's own words."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        inspect_video(path)
    assert (caught.value.code, caught.value.message) == ("InvalidParameter", "Invalid video file.")


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    """A playlist that names a good clip is still no video."""
    write_clip(tmp_path / "other.mp4")
    playlist = tmp_path / "list.mp4"
    playlist.write_text("ffconcat version 1.0\nfile other.mp4\n", encoding="ascii")
    with pytest.raises(MediaError):
        inspect_video(playlist)


def test_a_video_cut_off_in_the_middle_is_a_media_error(tmp_path: Path) -> None:
    """Half of a file whose index stood at its end can't be rendered."""
    clip = write_clip(tmp_path / "clip.mp4")
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(MediaError):
        render(job(clip))


def test_inspect_tells_an_images_facts(tmp_path: Path) -> None:
    """Format, sides and alpha are read from the header."""
    Image.new("RGB", (300, 280)).save(tmp_path / "a.jpg")
    Image.new("RGBA", (300, 280)).save(tmp_path / "a.png")
    first, second = inspect_image(tmp_path / "a.jpg"), inspect_image(tmp_path / "a.png")
    assert (first.format, first.width, first.height, first.has_alpha) == ("jpeg", 300, 280, False)
    assert (second.format, second.has_alpha) == ("png", True)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(MediaError, match="read image error"):
        inspect_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("resolution", "ratio", "sides"),
    [
        ("720P", "16:9", (1280, 720)),
        ("720P", "3:4", (832, 1104)),
        ("1080P", "4:3", (1648, 1248)),
        ("1080P", "9:16", (1080, 1920)),
        ("1080P", None, (1920, 1080)),
    ],
)
def test_output_size_is_the_references_table(
    resolution: str, ratio: str | None, sides: tuple[int, int]
) -> None:
    """A given ratio wins over the input's; without one a 16:9 input stays 16:9."""
    assert output_size(resolution, ratio, 640, 360) == sides


@given(
    width=st.integers(240, 4096), height=st.integers(240, 4096), resolution=st.sampled_from(["720P", "1080P"])
)
def test_output_keeps_the_inputs_ratio(width: int, height: int, resolution: str) -> None:
    """Sides are even, the ratio is the input's and the pixels are the level's, but for rounding."""
    across, down = output_size(resolution, None, width, height)
    assert across % 2 == down % 2 == 0
    assert across / down == pytest.approx(width / height, rel=0.02)
    assert across * down == pytest.approx({"720P": 1280 * 720, "1080P": 1920 * 1080}[resolution], rel=0.02)


def test_an_unknown_resolution_is_a_media_error() -> None:
    """What the table does not have is refused in words."""
    with pytest.raises(MediaError, match="out of definition"):
        output_size("480P", None, 640, 360)


@settings(deadline=None, max_examples=5)
@given(hundredths=st.integers(200, 1000))
def test_tiny_clip_lasts_exactly_as_long_as_asked(
    tmp_path_factory: pytest.TempPathFactory, hundredths: int
) -> None:
    """A stand-in has the billed duration to the hundredth, and decodes."""
    path = tmp_path_factory.mktemp("tiny") / "clip.mp4"
    tiny_clip(Decimal(hundredths) / 100, path)
    info = inspect_video(path)
    assert (info.duration, info.width, info.height) == (Decimal(hundredths) / 100, 64, 36)
    assert pictures(path)


@pytest.mark.parametrize(("duration", "seconds"), [(0, 2.5), (2, 2.0), (5, 2.5)])
def test_render_cuts_picture_and_sound(tmp_path: Path, duration: int, seconds: float) -> None:
    """The output lasts as long as the input, or as asked when that is shorter; sound too."""
    clip = write_clip(tmp_path / "clip.mp4")
    made = render(job(clip, duration=duration))
    assert (made.format, made.codec, made.width, made.height) == ("mp4", "h264", 1108, 832)
    assert float(made.duration) == pytest.approx(seconds, abs=0.01)
    assert heard_seconds(tmp_path / "output.mp4") == pytest.approx(seconds, abs=0.05)


@pytest.mark.parametrize("bf", [0, 3])
def test_render_keeps_every_picture_of_the_input(tmp_path: Path, bf: int) -> None:
    """As many frames come out as went in, B-frames or not."""
    clip = write_clip(tmp_path / "clip.mp4", bf=bf)
    render(job(clip))
    assert len(pictures(tmp_path / "output.mp4")) == 25


def test_render_of_a_silent_clip_is_silent(tmp_path: Path) -> None:
    """No sound is made up."""
    assert not render(job(write_clip(tmp_path / "clip.mp4", sound=False))).has_audio


def test_render_turns_a_rotated_clip_upright(tmp_path: Path) -> None:
    """A clip stored lying on its side comes out standing, red and blue where a viewer sees them."""
    clip = write_clip(tmp_path / "clip.mp4", rotation=90)
    info = inspect_video(clip)
    assert (info.width, info.height) == (240, 320)
    made = render(job(clip, prompt="blur"))
    assert made.height > made.width
    shown = pictures(tmp_path / "output.mp4")[0]
    top, bottom = shown[: made.height // 4].mean((0, 1)), shown[-made.height // 4 :].mean((0, 1))
    assert (top[2] > top[0], bottom[0] > bottom[2]) == (
        True,
        True,
    )  # turned to the left, the right half is on top


@pytest.mark.parametrize("size", [(242, 431), (431, 242)])
def test_render_takes_odd_sides(tmp_path: Path, size: tuple[int, int]) -> None:
    """Sides that H.264 can't halve come out even."""
    made = render(job(write_clip(tmp_path / "clip.mp4", size=size, frames=5), ratio="9:16"))
    assert (made.width, made.height) == (720, 1280)


def test_the_same_job_gives_the_same_bytes(tmp_path: Path) -> None:
    """Nothing of the time or the machine gets into a result."""
    clip = write_clip(tmp_path / "clip.mp4")
    render(job(clip, watermark=True))
    first = (tmp_path / "output.mp4").read_bytes()
    render(job(clip, watermark=True))
    assert (tmp_path / "output.mp4").read_bytes() == first


def test_watermark_is_drawn_at_the_lower_right(tmp_path: Path) -> None:
    """Only the lower right corner differs with a watermark."""
    clip = write_clip(tmp_path / "clip.mp4", frames=3)
    render(job(clip))
    plain = pictures(tmp_path / "output.mp4")[1].astype(int)
    render(job(clip, watermark=True))
    marked = pictures(tmp_path / "output.mp4")[1].astype(int)
    changed = np.abs(marked - plain).max(axis=2) > 60
    ys, xs = np.nonzero(changed)
    assert len(ys) > 100
    assert ys.min() > 832 * 0.9
    assert xs.min() > 1108 * 0.7


def test_references_are_placed_at_the_upper_left(tmp_path: Path) -> None:
    """Each reference image is seen in the result, side by side."""
    clip = write_clip(tmp_path / "clip.mp4", frames=3)
    for name, colour in (("a.png", (0, 255, 0)), ("b.png", (255, 255, 0))):
        Image.new("RGB", (300, 300), colour).save(tmp_path / name)
    render(job(clip, references=(tmp_path / "a.png", tmp_path / "b.png")))
    shown = pictures(tmp_path / "output.mp4")[1].astype(int)
    assert np.abs(shown[100, 100] - (0, 255, 0)).max() < 40
    assert np.abs(shown[100, 340] - (255, 255, 0)).max() < 40


def test_a_broken_reference_is_a_media_error(tmp_path: Path) -> None:
    """A reference that is no image fails the edit as the service says it."""
    clip = write_clip(tmp_path / "clip.mp4", frames=3)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(MediaError, match="read image error"):
        render(job(clip, references=(tmp_path / "a.png",)))


PROMPTS = (
    *("clay", "pixel", "sketch", "neon", "anime", "watercolour", "noir", "sepia", "negative", "night"),
    *("winter", "sunset", "dream", "something else"),
)


def test_every_look_renders_and_differs(tmp_path: Path) -> None:
    """Each look can be told from the source and from every other."""
    clip = write_clip(tmp_path / "clip.mp4", frames=2, sound=False)
    seen = set()
    for prompt in PROMPTS:
        render(job(clip, prompt=prompt))
        seen.add(pictures(tmp_path / "output.mp4")[0].tobytes())
    assert len(seen) == len(PROMPTS)


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("Convert the entire scene to a CLAYMATION style", "clay"),
        ("Make it night, with neon signs", "night"),
        ("neon signs at night", "neon"),
        ("黑白风格", "noir"),
    ],
)
def test_the_look_is_the_one_named_first(prompt: str, word: str) -> None:
    """Case, language and later words don't matter."""
    assert look(prompt, 1) == look(word, 2)


def test_without_a_named_look_the_seed_turns_the_colours() -> None:
    """Prompts without a known word differ by seed and are repeatable; 'nice' holds no 'ice'."""
    assert look("make it nice", 1) == look("make it nice", 1) != look("make it nice", 2)
    assert look("make it nice", 1) != look("ice", 1)
