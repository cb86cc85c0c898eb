"""Every published limit: what the gateway refuses at submit, what a task fails on when it has the bytes.

Source: https://www.alibabacloud.com/help/en/model-studio/wan-video-editing-api-reference; four reference
images are its later edition's.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from wanbatch.emulator.catalogue import Failure, Refusal, failure, refusal
from wanbatch.emulator.render import ImageInfo, VideoInfo
from wanbatch.emulator.task import Edit

PROMPT_CHARS: Final = 5000
NEGATIVE_PROMPT_CHARS: Final = 500
MAX_REFERENCES: Final = 4
RESOLUTIONS: Final = ("720P", "1080P")
RATIOS: Final = ("16:9", "9:16", "1:1", "4:3", "3:4")
AUDIO_SETTINGS: Final = ("auto", "origin")
DURATIONS: Final = (0, *range(2, 11))
MAX_SEED: Final = 2147483647
BODY_BYTES: Final = 112 * 1024 * 1024
"""Not published: room for four Base64 images of 20 MB."""
VIDEO_BYTES: Final = 100 * 1024 * 1024
IMAGE_BYTES: Final = 20 * 1024 * 1024
VIDEO_FORMATS: Final = ("mp4", "mov")
IMAGE_FORMATS: Final = ("jpeg", "png", "bmp", "webp")
VIDEO_SIDES: Final = (240, 4096)
IMAGE_SIDES: Final = (240, 8000)
MAX_RATIO: Final = 8
VIDEO_SECONDS: Final = (Decimal(2), Decimal(10))
_DATA_URL: Final = re.compile(r"data:image/(jpeg|jpg|png|bmp|webp);base64,", re.IGNORECASE)
FORBIDDEN_WORD: Final = "forbidden"
"""A prompt with this word fails moderation: a rule one can see, where the service's is hidden."""
COPYRIGHTED_WORD: Final = "copyrighted"
"""A prompt with this word is held to infringe somebody's rights."""


def read_body(body: bytes) -> dict[str, Any]:
    """Parse a submit's body. Raises Refusal when it is no JSON object."""
    if len(body) > BODY_BYTES:
        raise refusal("BadRequest.TooLarge")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise _bad("Required body invalid, please check the request body format.")
    return parsed


def read_model(body: Mapping[str, Any], model: str) -> str:
    """Give the model's name. Raises Refusal unless it is the one served."""
    asked = body.get("model")
    if asked in (None, ""):
        raise refusal("BadRequest.EmptyModel")
    if asked != model:
        raise refusal("ModelNotFound")
    return model


def read_edit(body: Mapping[str, Any], *, resolves_oss: bool) -> Edit:
    """Read a submit's input and parameters; unknown fields are let pass. Raises Refusal at the first fault.

    `resolves_oss` says whether the header X-DashScope-OssResourceResolve was set.
    """
    given = body.get("input")
    if not given:
        raise refusal("BadRequest.EmptyInput")
    if not isinstance(given, dict):
        raise _bad("The type or value of input is out of definition.")
    parameters = body.get("parameters")
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict):
        raise _bad("The type or value of parameters is out of definition.")
    video, references = _media(given.get("media"), resolves_oss=resolves_oss)
    return Edit(
        model=str(body.get("model")),
        prompt=_text(given, "prompt", PROMPT_CHARS),
        negative_prompt=_text(given, "negative_prompt", NEGATIVE_PROMPT_CHARS),
        video=video,
        references=references,
        resolution=_choice(parameters, "resolution", RESOLUTIONS) or "1080P",
        ratio=_choice(parameters, "ratio", RATIOS),
        duration=_duration(parameters),
        audio_setting=_choice(parameters, "audio_setting", AUDIO_SETTINGS) or "auto",
        prompt_extend=_flag(parameters, "prompt_extend", default=True),
        watermark=_flag(parameters, "watermark", default=False),
        seed=_seed(parameters),
    )


def read_leniently(body: Mapping[str, Any]) -> Edit:
    """Keep what can be kept of a submit that is accepted now and fails later."""
    prompt, urls = glance(body)
    return Edit(model=str(body.get("model")), prompt=prompt[:PROMPT_CHARS], video=urls[0] if urls else "")


def glance(body: Any) -> tuple[str, tuple[str, ...]]:
    """Give whatever prompt and media URLs a body holds, however malformed it is otherwise."""
    given = body.get("input") if isinstance(body, dict) else None
    if not isinstance(given, dict):
        return "", ()
    prompt, media = given.get("prompt"), given.get("media")
    entries = media if isinstance(media, list) else []
    urls = (entry.get("url") for entry in entries if isinstance(entry, dict))
    return prompt if isinstance(prompt, str) else "", tuple(url for url in urls if isinstance(url, str))


def moderate(prompt: str) -> Failure | None:
    """Judge a prompt by the emulator's two visible words."""
    lowered = prompt.lower()
    if FORBIDDEN_WORD in lowered:
        return failure("DataInspectionFailed")
    if COPYRIGHTED_WORD in lowered:
        return failure("IPInfringementSuspect")
    return None


def judge_video(info: VideoInfo) -> Failure | None:
    """Give what the service holds against an input video, or None."""
    if info.size > VIDEO_BYTES:
        return failure("InvalidFile.Size", "file size must be less than 100MB.")
    if info.format not in VIDEO_FORMATS:
        return failure("InvalidFile.Format", "Input files format not supported.")
    if not VIDEO_SECONDS[0] <= info.duration <= VIDEO_SECONDS[1]:
        return failure("InvalidFile.Duration")
    return _judge_sides(info.width, info.height, VIDEO_SIDES, "video")


def judge_image(info: ImageInfo) -> Failure | None:
    """Give what the service holds against a reference image, or None."""
    if info.size > IMAGE_BYTES:
        return failure("InvalidFile.Size", "file size must be less than 20MB.")
    if info.format not in IMAGE_FORMATS:
        return failure("InvalidFile.Format", "Input files format not supported.")
    if info.format == "png" and info.has_alpha:
        return failure("InvalidFile.Format", "Invalid image: PNG with an alpha channel is not supported.")
    return _judge_sides(info.width, info.height, IMAGE_SIDES, "image")


def _judge_sides(width: int, height: int, sides: tuple[int, int], what: str) -> Failure | None:
    if not all(sides[0] <= side <= sides[1] for side in (width, height)):
        return failure(
            "InvalidFile.Resolution",
            f"Invalid {what} resolution. Width and height must be within [{sides[0]}, {sides[1]}].",
        )
    if max(width, height) > MAX_RATIO * min(width, height):
        return failure(
            "InvalidFile.AspectRatio", f"Invalid {what} aspect ratio, it must be within 1:8 ~ 8:1."
        )
    return None


def _media(media: Any, *, resolves_oss: bool) -> tuple[str, tuple[str, ...]]:
    if media is None or media == []:
        raise _bad("Field required: input.media")
    if not isinstance(media, list):
        raise _bad("The type or value of input.media is out of definition.")
    entries = [_entry(entry, index, resolves_oss=resolves_oss) for index, entry in enumerate(media)]
    videos = [url for kind, url in entries if kind == "video"]
    references = tuple(url for kind, url in entries if kind == "reference_image")
    if len(videos) != 1:
        raise _bad(f"input.media must contain exactly one video, but {len(videos)} found.")
    if len(references) > MAX_REFERENCES:
        raise _bad(f"input.media must contain at most {MAX_REFERENCES} reference_image.")
    return videos[0], references


def _entry(entry: Any, index: int, *, resolves_oss: bool) -> tuple[str, str]:
    where = f"input.media[{index}]"
    if not isinstance(entry, dict):
        raise _bad(f"The type or value of {where} is out of definition.")
    kind, url = entry.get("type"), entry.get("url")
    if kind is None:
        raise _bad(f"Field required: {where}.type")
    if kind not in ("video", "reference_image"):
        raise _bad(f"The type or value of {where}.type is out of definition.")
    if url in (None, ""):
        raise _bad(f"Field required: {where}.url")
    if not isinstance(url, str) or not _is_welcome(url, kind, resolves_oss=resolves_oss):
        raise _bad(
            f"The provided URL does not appear to be valid. Ensure it is correctly formatted: {where}.url"
        )
    return kind, url


def _is_welcome(url: str, kind: str, *, resolves_oss: bool) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.scheme in ("http", "https"):
        return bool(parts.hostname)
    if parts.scheme == "oss":
        return resolves_oss
    return kind == "reference_image" and _DATA_URL.match(url) is not None


def _text(given: Mapping[str, Any], name: str, limit: int) -> str:
    text = given.get(name)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise _bad(f"The type or value of input.{name} is out of definition.")
    return text[:limit]


def _choice(parameters: Mapping[str, Any], name: str, values: tuple[str, ...]) -> str | None:
    value = parameters.get(name)
    if value is not None and (not isinstance(value, str) or value not in values):
        raise _bad(f"The type or value of {name} is out of definition.")
    return value


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _bad(f"The type or value of {name} is out of definition.")
    return value


def _duration(parameters: Mapping[str, Any]) -> int:
    value = parameters.get("duration")
    if value is None:
        return 0
    if not _is_whole(value) or value not in DURATIONS:
        raise _bad("The type or value of duration is out of definition, it must be 0 or within [2, 10].")
    return int(value)


def _seed(parameters: Mapping[str, Any]) -> int | None:
    value = parameters.get("seed")
    if value is None:
        return None
    if not _is_whole(value) or not 0 <= value <= MAX_SEED:
        raise _bad(f"Range of seed should be [0, {MAX_SEED}]")
    return int(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _bad(message: str) -> Refusal:
    return refusal("InvalidParameter", message)
