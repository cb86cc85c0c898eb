"""What was seen of an input, and what the service holds against it.

The limits are those of https://www.alibabacloud.com/help/en/model-studio/wan-video-editing-api-reference
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from wanbatch.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

_MB = 1024 * 1024
_FARTHEST_RATIO = 8


@dataclass(frozen=True, slots=True)
class _Limits:
    formats: tuple[str, ...]
    sides: tuple[int, int]
    """Pixels, both included."""
    size: int
    """Bytes."""
    seconds: tuple[Decimal, Decimal] | None


_LIMITS = {
    "video": _Limits(("mp4", "mov"), (240, 4096), 100 * _MB, (Decimal(2), Decimal(10))),
    "image": _Limits(("jpeg", "png", "bmp", "webp"), (240, 8000), 20 * _MB, None),
}


@dataclass(frozen=True, slots=True)
class Probed:
    """What an input is; sides as they are stored, before a viewer turns them."""

    kind: Literal["video", "image"]
    format: str
    """`mp4`, `mov`, `jpeg`, `png` …"""
    codec: str | None
    """Of the picture, in FFmpeg's words; None for images."""
    width: int
    height: int
    duration: Decimal | None
    """Seconds of picture, to 0.01; None for images."""
    size: int | None
    """Bytes; None when the server does not say."""
    has_alpha: bool
    has_audio: bool

    def to_json(self) -> str:
        """Write it on one line, the duration as text so that it stays exact."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Probed:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        if fields["duration"] is not None:
            fields["duration"] = Decimal(fields["duration"])
        return cls(**fields)


def problems(probed: Probed, column: str) -> list[Problem]:
    """Give every limit of the service that an input breaks; `column` is where the manifest names it."""
    return [Problem(0, column, value, rule, mend) for value, rule, mend in _breaches(probed)]


def _breaches(probed: Probed) -> Iterator[tuple[str, str, str]]:
    limits = _LIMITS[probed.kind]
    if probed.format not in limits.formats:
        accepted = ", ".join(limits.formats)
        yield probed.format, f"the service takes no such {probed.kind}s", f"convert it to one of {accepted}"
    low, high = limits.sides
    sides = f"{probed.width}x{probed.height}"
    if not (low <= probed.width <= high and low <= probed.height <= high):
        yield sides, f"each side must have {low} to {high} pixels", "scale it"
    if max(probed.width, probed.height) > _FARTHEST_RATIO * min(probed.width, probed.height):
        yield sides, "the sides' ratio must lie between 1:8 and 8:1", "crop or pad it"
    if probed.size is not None and probed.size > limits.size:
        yield f"{probed.size / _MB:.1f} MB", f"must have at most {limits.size // _MB} MB", "compress it more"
    if limits.seconds and probed.duration is not None:
        shortest, longest = limits.seconds
        if not shortest <= probed.duration <= longest:
            yield f"{probed.duration} s", f"must last {shortest} to {longest} s", "cut or split it"
    if probed.format == "png" and probed.has_alpha:
        yield "PNG with alpha", "the service takes no alpha channel", "flatten it onto a background"
