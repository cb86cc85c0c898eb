"""File names from ids and keys: whatever a manifest says, a name stays in its folder and is nobody else's.

A clean name is kept as it is. Any other gets a digest of the original, also one with capitals, since "A" and
"a" are one file on many disks, and one that already ends like a digest, so that none can pose as another's.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wanbatch.models import Item

_LONGEST = 120
"""Bytes of UTF-8; file systems take 255, and extensions and temporary suffixes follow."""
_DIGEST_BYTES = 8
_DIGESTED = re.compile(rf".*-[0-9a-f]{{{2 * _DIGEST_BYTES}}}")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
"""Devices, not files: https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file"""


def output_name(item: Item) -> str:
    """Name the video of an item after its own id, else its key."""
    return f"{safe_name(item.id or item.key)}.mp4"


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
