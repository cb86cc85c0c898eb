"""The columns a manifest may have."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from wanbatch.models import (
    DURATION_RANGE,
    NEGATIVE_PROMPT_LIMIT,
    PROMPT_LIMIT,
    REFERENCE_IMAGE_LIMIT,
    SEED_LIMIT,
    Ratio,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wanbatch.manifest.findings import Findings

VIDEO = "video"
TAG_PREFIX = "tag_"
IMAGES = tuple(f"reference_image_{n}" for n in range(1, REFERENCE_IMAGE_LIMIT + 1))
IMAGE_LIST = "reference_images"
"""One list column instead of the four, where the format has lists (Parquet, JSON Lines)."""
LISTED_IMAGES = tuple(f"{IMAGE_LIST}[{n}]" for n in range(1, REFERENCE_IMAGE_LIMIT + 1))
"""How the cells of that list are named once they stand in columns of their own."""

KNOWN = (
    *(VIDEO, "prompt", "negative_prompt", *IMAGES, IMAGE_LIST),
    *("resolution", "ratio", "duration", "audio_setting", "prompt_extend", "watermark", "seed"),
    *("id", "service"),
)

ID_LIMIT = 200
MEANINGS = {
    VIDEO: ("what to edit: an `http(s)://`, `s3://`, `oss://` or `gs://` URL, or a local path", "required"),
    "prompt": (f"what to change; the service cuts it at {PROMPT_LIMIT:,} characters", "none"),
    "negative_prompt": (
        f"what not to show; the service cuts it at {NEGATIVE_PROMPT_LIMIT} characters",
        "none",
    ),
    IMAGES[0]: ("images the prompt speaks of: as `video`, or `data:image/png;base64,…`", "none"),
    IMAGE_LIST: ("the same as one list; Parquet and JSON Lines only", "none"),
    "resolution": ("`720P` or `1080P`; it sets the price", "`1080P`"),
    "ratio": (", ".join(f"`{ratio}`" for ratio in Ratio), "near the input's"),
    "duration": (
        f"`0` keeps the length; `{DURATION_RANGE[0]}` to `{DURATION_RANGE[1]}` cuts it to so many whole seconds",
        "`0`",
    ),
    "audio_setting": ("`auto` lets the model decide, `origin` keeps the sound", "`auto`"),
    "prompt_extend": (
        "whether the service rewrites the prompt: `true`, `false`, `yes`, `no`, `1` or `0`",
        "`true`",
    ),
    "watermark": ('whether the video says "AI-generated"', "`false`"),
    "seed": (f"`0` to `{SEED_LIMIT}`; the same seed gives a similar video, not the same one", "random"),
    "id": (f"the row's own name, unique, up to {ID_LIMIT} characters; also used in file names", "none"),
    "service": ("`singapore`, `beijing`, `emulator` or a URL, for this row alone", "the run's"),
    TAG_PREFIX: (
        f"anything; `{TAG_PREFIX}campaign` becomes the tag `campaign` in the ledger, to report cost by",
        "none",
    ),
}
"""What each column holds and what an empty cell means; the first image column stands for all of them."""


def is_known(name: str) -> bool:
    """Whether a manifest may have this column."""
    return name in KNOWN or (name.startswith(TAG_PREFIX) and name != TAG_PREFIX)


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """Return the choice that was probably meant, if there is one."""
    folded = {choice.lower(): choice for choice in choices}
    close = get_close_matches(value.strip().lower(), folded, n=1, cutoff=0.5)
    return folded[close[0]] if close else None


def check_columns(names: Sequence[str], findings: Findings, *, row: int = 0) -> None:
    """Report every column that is unknown, nameless or there twice."""
    for position, name in enumerate(names, start=1):
        if not is_known(name):
            findings.add(row, f"column {position}", name, "is not a column of a manifest", _mend(name))
        elif name in names[: position - 1]:
            findings.add(row, name, "", "stands there twice", "keep one of the two columns")


def check_video_column(names: Sequence[str], findings: Findings) -> None:
    """Report a table without its one required column."""
    if VIDEO not in names:
        findings.add(0, VIDEO, "", "the column is missing", "add it: a URL or a path for every row")


def _mend(name: str) -> str:
    if not name.strip():
        return "name the column, or take it away"
    if name == TAG_PREFIX:
        return "put the tag's name behind it: tag_campaign"
    if name.startswith("__index_level_"):
        return "write the table without its index (pandas: index=False)"
    meant = nearest(name, KNOWN)
    own = f"{TAG_PREFIX}{name.strip()} carries a value of your own"
    return f"did you mean {meant}? {own}" if meant else own
