"""The keys of rows, a column at a time: those that `wanbatch.identity.item_key` gives their items."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from wanbatch.errors import UsageError
from wanbatch.identity import PARAMETERS, SEPARATOR, SIGNATURE_PARAMETERS, SIGNATURE_PREFIXES
from wanbatch.manifest.columns import VIDEO
from wanbatch.models import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from wanbatch.manifest.rules import Checked

_OWN_NAME = "^((https?|s3|oss|gs)://[^?#@]*)?$"
"""URLs without anything that may be a secret name their object as they are; so does a cell without a medium."""


def _any_case(name: str) -> str:
    """Not as `(?i)` would: that takes more than ASCII letters for the same."""
    return re.sub("[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", re.escape(name))


_SIGNATURES = "|".join(map(_any_case, sorted(SIGNATURE_PARAMETERS)))
_PREFIXES = "|".join(map(_any_case, SIGNATURE_PREFIXES))
_PAIR = f"(?:{_SIGNATURES}|(?:{_PREFIXES})[^=&#]*)=[^&#]*"
_SIGNED = rf"^(https?://[A-Za-z0-9.-]+(?:/[!\"$->A-~]*)?)\?{_PAIR}(?:&{_PAIR})*$"
"""A plain URL with nothing but a signature behind it: its group is all that `identify` would leave, 20 times faster."""


def key_texts(checked: Checked, identify: Callable[[str], str]) -> list[bytes]:
    """Write out what the keys of good rows are digests of; `identify` names a medium.

    Raises `UsageError` with the row when a local file can't be read.
    """
    video, *images = (_identities(checked, name, identify) for name in (VIDEO, *checked.image_columns()))
    texts = pc.binary_join_element_wise(
        MODEL,
        *(checked.columns[name] for name in (*PARAMETERS, "id")),
        video,
        *(pc.if_else(pc.equal(image, ""), None, image) for image in images),
        SEPARATOR,
        null_handling="skip",
    )
    written: list[bytes] = texts.cast(pa.binary()).to_pylist()
    return written


def _identities(checked: Checked, name: str, identify: Callable[[str], str]) -> pa.StringArray:
    cells = checked.columns[name]
    others = _without_own_name(cells)
    if others.true_count:
        cells = pc.replace_substring_regex(cells, _SIGNED, r"\1")
        others = _without_own_name(cells)
    if not others.true_count:
        return cells
    media = cells.filter(others)
    named = {medium: _named(checked, name, medium, identify) for medium in media.unique().to_pylist()}
    return pc.replace_with_mask(
        cells, others, pa.array([named[medium] for medium in media.to_pylist()], pa.string())
    )


def _without_own_name(cells: pa.StringArray) -> pa.BooleanArray:
    return pc.invert(pc.match_substring_regex(cells, _OWN_NAME))


def _named(checked: Checked, name: str, medium: str, identify: Callable[[str], str]) -> str:
    try:
        return identify(medium)
    except UsageError as error:
        row = checked.rows[pc.index(checked.columns[name], medium).as_py()]
        raise UsageError(f"row {row}: {error}") from None
