"""A batch of text cells, and how cells of every type become text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from wanbatch.manifest.columns import IMAGE_LIST, LISTED_IMAGES
from wanbatch.models import REFERENCE_IMAGE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from wanbatch.manifest.findings import Findings

MIB = 1 << 20
_SURROGATES = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Cells:
    """Some rows: their numbers, counted from 1, and their cells by column; an empty cell is ''."""

    rows: Sequence[int]
    columns: Mapping[str, pa.StringArray]


def open_stream(path: Path, codec: str | None) -> pa.NativeFile:
    """Open a file for reading, decompressed on the way."""
    return pa.input_stream(str(path), compression=codec, buffer_size=MIB)


def marked(text: str) -> bytes:
    """Encode text that was decoded with `surrogateescape`: a NUL stands for each byte that was not UTF-8.

    A rule reports the cells with NULs.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATES.sub("\0", text).encode()


def spread_lists(lists: pa.Array, rows: Sequence[int], findings: Findings) -> dict[str, pa.StringArray]:
    """Spread a column of lists over one column per place."""
    lengths = pc.list_value_length(lists)
    too_long = pc.fill_null(pc.greater(lengths, REFERENCE_IMAGE_LIMIT), fill_value=False)
    for index in pc.indices_nonzero(too_long).to_pylist():
        findings.add(
            rows[index],
            IMAGE_LIST,
            f"{lengths[index]} images",
            f"the service takes {REFERENCE_IMAGE_LIMIT}",
            "leave some out",
        )
    fixed = pc.list_slice(lists, 0, REFERENCE_IMAGE_LIMIT, return_fixed_size_list=True)
    return {name: text_column(pc.list_element(fixed, place)) for place, name in enumerate(LISTED_IMAGES)}


def text_column(column: pa.Array) -> pa.StringArray:
    """Write any column of scalars as text; null and NaN are empty cells."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    if _may_be_bad_text(column.type):
        column = _utf8(column.cast(pa.binary()))
    return pc.fill_null(column.cast(pa.string()), "")


def _utf8(column: pa.BinaryArray) -> pa.StringArray:
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array(
            [
                None if cell is None else marked(cell.decode(errors="surrogateescape"))
                for cell in column.to_pylist()
            ],
            pa.string(),
        )


def _may_be_bad_text(kind: pa.DataType) -> bool:
    """Whether nothing but its writer promises that this is UTF-8."""
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )
