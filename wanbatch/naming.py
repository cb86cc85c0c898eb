"""File names from ids and keys: whatever a manifest says, a name stays in its folder and is nobody else's.

A clean name is kept as it is. Any other gets a digest of the original, also one with capitals, since "A" and
"a" are one file on many disks, and one that already ends like a digest, so that none can pose as another's.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath
from string import Formatter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wanbatch.errors import UsageError
from wanbatch.identity import is_url, without_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wanbatch.models import Item

_EXTENSION = ".mp4"
_NUMBERS = ("row", "duration", "seed")
_LONGEST = 120
"""Bytes of UTF-8; file systems take 255, and extensions and temporary suffixes follow."""
_DIGEST_BYTES = 8
_DIGESTED = re.compile(rf".*-[0-9a-f]{{{2 * _DIGEST_BYTES}}}")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
"""Devices, not files: https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file"""


_WIDTH = re.compile(r"0?\d{1,2}")
_TAG = "tag_"
FIELDS = ("id", "key", "row", "resolution", "ratio", "duration", "seed", "source")
"""What a template may name, and any tag as `tag_NAME`."""


@dataclass(frozen=True, slots=True)
class NameTemplate:
    """How videos are named: text with `{fields}`, in folders where it has slashes.

    `id` is the key where a row has none, `source` the name of the input without its extension; what a row does
    not say is empty. `row`, `duration` and `seed` may be padded, as in `{row:05}`.
    """

    folders: tuple[str, ...]
    stem: str

    @classmethod
    def parse(cls, text: str) -> NameTemplate:
        """Read a template such as `{tag_campaign}/{id}-{resolution}.mp4`; raises `UsageError`."""
        *folders, name = text.split("/")
        if not name.lower().endswith(_EXTENSION) or name.lower() == _EXTENSION or not all(folders):
            raise UsageError(
                f"--name {text!r}: a name is like {{id}}-{{resolution}}.mp4, and may be in folders"
            )
        made = cls(tuple(folders), name[: -len(_EXTENSION)])
        try:
            fields = [
                (field, width or "", conversion)
                for segment in (*made.folders, made.stem)
                for _, field, width, conversion in Formatter().parse(segment)
                if field is not None
            ]
        except ValueError as error:
            raise UsageError(f"--name {text!r}: {error}; a brace of its own is written twice") from None
        for field, width, conversion in fields:
            _check_field(text, field, width, conversion)
        if not fields:
            raise UsageError(f"--name {text!r}: every video would have this name; put {{id}} into it")
        return made

    @property
    def tags(self) -> set[str]:
        """The tags it names."""
        segments = (*self.folders, self.stem)
        named = {field for text in segments for _, field, _, _ in Formatter().parse(text) if field}
        return {field.removeprefix(_TAG) for field in named if field.startswith(_TAG)}

    def name(self, item: Item) -> str:
        """Name the video of an item; each part of the name is safe by itself."""
        values = _values(item, self.tags)
        segments = [safe_name(segment.format_map(values)) for segment in (*self.folders, self.stem)]
        return "/".join(segments) + _EXTENSION


def _check_field(template: str, field: str, width: str, conversion: str | None) -> None:
    if field not in FIELDS and not (field.startswith(_TAG) and field.removeprefix(_TAG).isidentifier()):
        known = ", ".join((*FIELDS, f"{_TAG}NAME"))
        raise UsageError(f"--name {template!r}: there is no {{{field}}}; there are {known}")
    if conversion or (width and (field not in _NUMBERS or not _WIDTH.fullmatch(width))):
        raise UsageError(
            f"--name {template!r}: {{{field}}} takes no such form; write {{row:05}}, or plain {{{field}}}"
        )


def _values(item: Item, tags: set[str]) -> Mapping[str, object]:
    request = item.request
    return {
        "id": item.id or item.key,
        "key": item.key,
        "row": item.row,
        "resolution": request.resolution.lower(),  # a capital would make the name unlike others by case alone
        "ratio": (request.ratio or "").replace(":", "x"),
        "duration": request.duration,
        "seed": _Blank() if request.seed is None else request.seed,
        "source": source_name(request.video),
    } | {f"{_TAG}{tag}": item.tags.get(tag, "") for tag in tags}


class _Blank:
    """A number that is not there: nothing, however wide."""

    def __format__(self, width: str) -> str:
        return ""


def source_name(video: str) -> str:
    """Give the name of an input's file without its extension."""
    path = urlsplit(without_signature(video)).path if is_url(video) else video
    return PurePosixPath(path).stem


def output_name(item: Item, template: NameTemplate | None = None) -> str:
    """Name the video of an item: as the template says, else after its own id, else its key."""
    return template.name(item) if template else f"{safe_name(item.id or item.key)}{_EXTENSION}"


def safe_name(text: str) -> str:
    """Turn untrusted text into a file name of at most 120 bytes; distinct texts get distinct names.

    They differ by more than case and Unicode form, so they stay apart on any file system.
    """
    stem = _stem(text)
    if stem == text and _same_in_any_case(text) and not _DIGESTED.fullmatch(text):
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{_cut(stem, _LONGEST - len(digest) - 1)}-{digest}"


def _stem(text: str) -> str:
    """Keep letters, marks, numbers and `._-`, in NFC; a run of anything else becomes one `_`."""
    composed = unicodedata.normalize("NFC", text)
    kept = "".join("".join(run) if allowed else "_" for allowed, run in groupby(composed, key=_is_allowed))
    stem = _cut(kept.lstrip(".-").rstrip("."), _LONGEST) or "item"
    return f"_{stem}" if _RESERVED.fullmatch(stem) else stem


def _is_allowed(character: str) -> bool:
    return character in "._-" or unicodedata.category(character)[0] in "LMN"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore").rstrip(".")


def _same_in_any_case(text: str) -> bool:
    """Whether no folding of case changes it; the way over capitals catches a dotless i."""
    return text == text.casefold() == text.upper().casefold()
