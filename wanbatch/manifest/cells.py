"""A batch of text cells, and how cells of every type become text."""

from __future__ import annotations

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
NOT_UTF8 = ("is not UTF-8", "save the file as UTF-8")


@dataclass(frozen=True, slots=True)
class Cells:
    """Some rows: their numbers, counted from 1, and their cells by column; an empty cell is ''."""

    rows: Sequence[int]
    columns: Mapping[str, pa.StringArray]


def open_stream(path: Path, codec: str | None) -> pa.NativeFile:
    """Open a file for reading, decompressed on the way."""
    return pa.input_stream(str(path), compression=codec, buffer_size=MIB)


def utf8_column(column: pa.Array, name: str, rows: Sequence[int], findings: Findings) -> pa.StringArray:
    """Turn bytes into text, and report the cells that are none."""
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        texts = [
            _decoded(value, row, name, findings) for value, row in zip(column.to_pylist(), rows, strict=True)
        ]
        return pa.array(texts, pa.string())


def _decoded(value: bytes | None, row: int, name: str, findings: Findings) -> str:
    try:
        return (value or b"").decode()
    except UnicodeDecodeError:
        text = (value or b"").decode(errors="replace")
        findings.add(row, name, text, *NOT_UTF8)
        return text


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
    return {
        name: text_column(pc.list_element(fixed, place), name, rows, findings)
        for place, name in enumerate(LISTED_IMAGES)
    }


def text_column(column: pa.Array, name: str, rows: Sequence[int], findings: Findings) -> pa.StringArray:
    """Write any column of scalars as text; null and NaN are empty cells."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    if _may_be_bad_text(column.type):
        column = utf8_column(column.cast(pa.binary()), name, rows, findings)
    return pc.fill_null(column.cast(pa.string()), "")


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
