"""Small pictures out of videos on this machine, as data: URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from PIL import Image

_AT_S = 0.5
_SIZE = (320, 320)
_QUALITY = 70


def still(video: str | None) -> str | None:
    """Take the frame at half a second of a local MP4 or MOV as a JPEG data: URI; None when there is none."""
    if not video or "://" in video or not Path(video).is_file():
        return None
    try:
        picture = _frame(Path(video))
    except (av.FFmpegError, OSError, ValueError):
        return None
    if picture is None:
        return None
    picture.thumbnail(_SIZE)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _frame(path: Path) -> Image.Image | None:
    # The format is given, so that a file that only claims to be a video can't name others to be read.
    with av.open(str(path), format="mov") as container:
        chosen = None
        for frame in container.decode(video=0):
            chosen = frame
            if frame.time >= _AT_S:
                break
        if chosen is None:
            return None
        picture: Image.Image = chosen.to_image()  # type: ignore[no-untyped-call] # PyAV leaves it untyped
        return picture
