"""The demo's clips: small drawn scenes with sound, made here rather than stored.

The same pictures and notes every time; H.264 and AAC in MP4, of different sizes and lengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import av
import numpy as np
from PIL import Image, ImageDraw

from wanbatch.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_FPS = 24
_AUDIO_RATE = 44_100
_NOTE_S = 0.25
_PENTATONIC = (0, 2, 4, 7, 9)

_Draw = ImageDraw.ImageDraw
_Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Scene:
    name: str
    size: tuple[int, int]
    seconds: float
    backdrop: Callable[[_Draw, int, int], None]
    """Draws what stands still; once."""
    actors: Callable[[_Draw, int, int, float], None]
    """Draws what moves, at a time in seconds."""
    root_hz: float


def make_samples(folder: Path) -> tuple[Path, ...]:
    """Make the clips and the reference image that are not there yet; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = {f"{scene.name}.mp4": partial(_encode, scene) for scene in _SCENES} | {
        "jacket.png": _draw_jacket
    }
    return tuple(_made(folder / name, make) for name, make in makers.items())


def _made(path: Path, make: Callable[[Path], None]) -> Path:
    if not path.exists():
        with replacing(path) as part:
            make(part)
    return path


def _encode(scene: _Scene, path: Path) -> None:
    width, height = scene.size
    still = Image.new("RGB", scene.size)
    scene.backdrop(ImageDraw.Draw(still), width, height)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=_FPS, options={"preset": "ultrafast", "crf": "26"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=_AUDIO_RATE, layout="mono")
        for number in range(round(scene.seconds * _FPS)):
            picture = still.copy()
            scene.actors(ImageDraw.Draw(picture), width, height, number / _FPS)
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, _FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(_melody(scene)))
        container.mux(audio.encode(None))


def _melody(scene: _Scene) -> av.AudioFrame:
    """Play a scale up and down, a note every quarter of a second, each fading out."""
    times = np.arange(round(scene.seconds * _AUDIO_RATE)) / _AUDIO_RATE
    step = (times / _NOTE_S).astype(int) % (2 * len(_PENTATONIC) - 2)
    up_and_down = np.array([*_PENTATONIC, *_PENTATONIC[-2:0:-1]])
    wave = np.sin(2 * np.pi * scene.root_hz * 2 ** (up_and_down[step] / 12) * times)
    loudness = 0.25 * np.exp(-6 * (times % _NOTE_S))
    frame = av.AudioFrame.from_ndarray(
        (wave * loudness).astype(np.float32)[None, :], format="fltp", layout="mono"
    )
    frame.sample_rate, frame.pts, frame.time_base = _AUDIO_RATE, 0, Fraction(1, _AUDIO_RATE)
    return frame


# ------------------------------------------------------------------------------------------- the scenes


def _gradient(draw: _Draw, width: int, rows: range, start: _Colour, end: _Colour) -> None:
    for y in rows:
        part = (y - rows.start) / max(len(rows) - 1, 1)
        colour = tuple(round(a + (b - a) * part) for a, b in zip(start, end, strict=True))
        draw.line([(0, y), (width, y)], fill=colour)


def _disc(draw: _Draw, x: float, y: float, radius: float, colour: _Colour) -> None:
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)


def _limb(draw: _Draw, joints: list[tuple[float, float]], thick: float, colour: _Colour) -> None:
    draw.line(joints, fill=colour, width=round(thick), joint="curve")
    for x, y in joints:
        _disc(draw, x, y, thick / 2, colour)


def _street(draw: _Draw, width: int, height: int) -> None:
    kerb = height * 62 // 100
    _gradient(draw, width, range(kerb), (122, 176, 226), (232, 226, 205))
    _disc(draw, width * 0.82, height * 0.16, height * 0.06, (255, 238, 170))
    for block in range(9):
        left = block * width // 9
        roof = kerb - height * (22 + (block * 53) % 31) // 100
        shade = 105 + (block * 37) % 70
        draw.rectangle([left, roof, left + width // 9 - 6, kerb], fill=(shade, shade - 18, shade - 10))
        for row, column in ((row, column) for row in range(roof + 18, kerb - 24, 34) for column in range(3)):
            x = left + 16 + column * width // 30
            lit = (block + row // 34 + column) % 3 == 0
            draw.rectangle(
                [x, row, x + width // 60, row + 18], fill=(250, 224, 140) if lit else (70, 86, 104)
            )
    draw.rectangle([0, kerb, width, kerb + height * 6 // 100], fill=(176, 170, 160))
    draw.rectangle([0, kerb + height * 6 // 100, width, height], fill=(66, 68, 74))
    for dash in range(0, width, 120):
        draw.rectangle([dash, height * 83 // 100, dash + 64, height * 84 // 100], fill=(224, 220, 200))


def _traffic(draw: _Draw, width: int, height: int, at: float) -> None:
    for lane, speed, colour in (
        (0.74, 0.22, (196, 52, 46)),
        (0.76, 0.22, (38, 92, 160)),
        (0.9, -0.3, (236, 178, 48)),
    ):
        start = 0.55 if lane == 0.76 else 0.05  # noqa: PLR2004 - the second car of the far lane
        x = ((start + speed * at) % 1.3 - 0.15) * width
        y, long, tall = lane * height, width * 0.13, height * 0.07
        draw.rounded_rectangle([x, y - tall, x + long, y], radius=tall / 3, fill=colour)
        draw.rounded_rectangle(
            [x + long * 0.2, y - tall * 1.75, x + long * 0.8, y - tall * 0.8],
            radius=tall / 3,
            fill=(206, 224, 236),
        )
        for wheel in (0.22, 0.78):
            _disc(draw, x + long * wheel, y, tall * 0.36, (24, 24, 28))
    _figure(
        draw,
        (0.1 + 0.13 * at) * width,
        height * 0.665,
        tall=height * 0.19,
        swing=math.sin(at * 7),
        shirt=(48, 120, 92),
    )


def _figure(draw: _Draw, x: float, foot: float, *, tall: float, swing: float, shirt: _Colour) -> None:
    hip, neck = foot - tall * 0.46, foot - tall * 0.8
    for side in (-1, 1):
        reach = side * swing * tall * 0.2
        _limb(
            draw,
            [(x, hip), (x + reach * 0.6, foot - tall * 0.22), (x + reach, foot)],
            tall * 0.1,
            (44, 48, 72),
        )
        _limb(
            draw,
            [(x, neck + tall * 0.06), (x - reach * 0.7, hip - tall * 0.12), (x - reach * 1.1, hip)],
            tall * 0.08,
            (226, 182, 150),
        )
    draw.rounded_rectangle(
        [x - tall * 0.12, neck, x + tall * 0.12, hip + tall * 0.03], radius=tall * 0.06, fill=shirt
    )
    _disc(draw, x, neck - tall * 0.1, tall * 0.1, (226, 182, 150))


def _hills(draw: _Draw, width: int, height: int) -> None:
    _gradient(draw, width, range(height), (96, 164, 230), (226, 240, 250))
    for shade, rise, wave in (((118, 168, 104), 0.58, 0.9), ((86, 146, 80), 0.7, 1.7)):
        edge = [
            (x, height * (rise + 0.07 * math.sin(wave * 6.3 * x / width + wave)))
            for x in range(0, width + 8, 8)
        ]
        draw.polygon([(0, height), *edge, (width, height)], fill=shade)


def _bounce(draw: _Draw, width: int, height: int, at: float) -> None:
    for cloud in range(3):
        x = ((cloud * 0.37 + 0.05 * at) % 1.2 - 0.1) * width
        y = height * (0.14 + 0.08 * (cloud % 2))
        for puff in (-1, 0, 1):
            _disc(
                draw,
                x + puff * height * 0.06,
                y - (puff == 0) * height * 0.03,
                height * 0.06,
                (250, 252, 255),
            )
    hop = abs(math.sin(math.pi * at * 1.1))
    x, ground, radius = width * (0.12 + 0.18 * at), height * 0.86, height * 0.1
    draw.ellipse(
        [x - radius * (1 - hop / 2), ground - 6, x + radius * (1 - hop / 2), ground + 6], fill=(62, 110, 58)
    )
    y = ground - radius - hop * height * 0.5
    _disc(draw, x, y, radius, (222, 66, 52))
    turn = at * 4
    _disc(
        draw,
        x + radius * 0.45 * math.cos(turn),
        y + radius * 0.45 * math.sin(turn),
        radius * 0.3,
        (250, 220, 90),
    )


def _stage(draw: _Draw, width: int, height: int) -> None:
    _gradient(draw, width, range(height * 3 // 4), (58, 34, 84), (150, 80, 130))
    _gradient(draw, width, range(height * 3 // 4, height), (98, 64, 52), (150, 104, 78))
    for beam in range(3):
        foot = width * (0.2 + 0.3 * beam)
        draw.polygon(
            [(foot, 0), (foot - width * 0.14, height * 0.78), (foot + width * 0.14, height * 0.78)],
            fill=(124, 74, 128),
        )


def _dance(draw: _Draw, width: int, height: int, at: float) -> None:
    beat = math.sin(at * 6)
    x, hip, unit = width * (0.5 + 0.06 * math.sin(at * 3)), height * (0.6 - 0.015 * abs(beat)), height * 0.1
    draw.ellipse([x - unit * 1.3, height * 0.865, x + unit * 1.3, height * 0.885], fill=(72, 46, 40))
    for side in (-1, 1):
        knee = (x + side * unit * (0.6 + 0.3 * beat * side), hip + unit * 1.25)
        _limb(
            draw,
            [(x + side * unit * 0.3, hip), knee, (x + side * unit * 0.8, height * 0.87)],
            unit * 0.36,
            (40, 44, 60),
        )
        elbow = (x + side * unit * 1.25, hip - unit * (1.5 + 0.4 * beat * side))
        hand = (x + side * unit * 1.5, hip - unit * (2.3 + 1.1 * beat * side))
        _limb(draw, [(x + side * unit * 0.5, hip - unit * 1.75), elbow, hand], unit * 0.3, (228, 186, 156))
    draw.rounded_rectangle(
        [x - unit * 0.68, hip - unit * 2, x + unit * 0.68, hip + unit * 0.1],
        radius=unit * 0.35,
        fill=(232, 232, 228),
    )
    _disc(draw, x + unit * 0.15 * beat, hip - unit * 2.6, unit * 0.52, (228, 186, 156))
    _disc(draw, x + unit * 0.15 * beat, hip - unit * 2.85, unit * 0.46, (60, 40, 34))


def _table(draw: _Draw, width: int, height: int) -> None:
    _gradient(draw, width, range(height * 6 // 10), (214, 220, 226), (240, 240, 236))
    _gradient(draw, width, range(height * 6 // 10, height), (172, 126, 88), (128, 88, 58))
    for grain in range(8):
        y = height * (62 + grain * 5) // 100
        draw.line([(0, y), (width, y + 12)], fill=(150, 106, 72), width=2)


def _turntable(draw: _Draw, width: int, height: int, at: float) -> None:
    """Turn a box about its upright axis and draw the two sides that face us, nearer corners lower."""
    x, y, half, tall = width / 2, height * 0.56, width * 0.2, height * 0.3
    draw.ellipse([x - half * 1.5, y + tall * 0.5, x + half * 1.5, y + tall * 0.95], fill=(104, 70, 46))
    corners = [
        (
            x + half * math.cos(at * 1.2 + k * math.pi / 2),
            y + half * 0.32 * math.sin(at * 1.2 + k * math.pi / 2),
        )
        for k in range(4)
    ]
    colours = ((42, 120, 142), (226, 108, 62), (64, 152, 120), (230, 170, 70))
    sides = sorted(range(4), key=lambda k: corners[k][1] + corners[(k + 1) % 4][1])
    for k in sides[2:]:
        (ax, ay), (bx, by) = corners[k], corners[(k + 1) % 4]
        draw.polygon(
            [(ax, ay - tall), (bx, by - tall), (bx, by + tall * 0.6), (ax, ay + tall * 0.6)], fill=colours[k]
        )
        low, high = 0.1, 0.3
        draw.polygon(
            [(ax, ay - tall * low), (bx, by - tall * low), (bx, by + tall * high), (ax, ay + tall * high)],
            fill=(244, 240, 228),
        )
    draw.polygon([(cx, cy - tall) for cx, cy in corners], fill=(250, 246, 236))


def _draw_jacket(path: Path) -> None:
    picture = Image.new("RGB", (640, 640), (246, 244, 240))
    draw = ImageDraw.Draw(picture)
    body = [(210, 120), (430, 120), (480, 560), (160, 560)]
    sleeves = (
        [(210, 120), (90, 420), (160, 450), (230, 260)],
        [(430, 120), (550, 420), (480, 450), (410, 260)],
    )
    pattern = Image.new("RGB", picture.size, (36, 64, 128))
    stripes = ImageDraw.Draw(pattern)
    for stripe in range(0, 640, 40):
        stripes.line([(stripe, 0), (stripe, 640)], fill=(220, 60, 60), width=10)
        stripes.line([(0, stripe), (640, stripe)], fill=(240, 206, 90), width=6)
    mask = Image.new("L", picture.size, 0)
    for shape in (body, *sleeves):
        ImageDraw.Draw(mask).polygon(shape, fill=255)
    picture.paste(pattern, mask=mask)
    draw.polygon([(270, 118), (370, 118), (320, 220)], fill=(246, 244, 240))
    draw.line([(320, 220), (320, 558)], fill=(20, 30, 60), width=6)
    for button in range(260, 540, 70):
        _disc(draw, 336, button, 8, (240, 240, 230))
    picture.save(path, format="PNG")


_SCENES = (
    _Scene("street", (1280, 720), 5.0, _street, _traffic, 220.0),
    _Scene("dancer", (720, 1280), 4.0, _stage, _dance, 261.63),
    _Scene("ball", (640, 360), 6.0, _hills, _bounce, 329.63),
    _Scene("product", (960, 960), 3.0, _table, _turntable, 196.0),
)
