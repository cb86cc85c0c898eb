"""The columns of the ledger, and the versions they went through.

Version 0, of no release, had money and seconds as doubles; a reader rounds them to the six places that were meant.
Version 1 has decimals. A column that is added later keeps the version: in older files it reads as unknown.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from wanbatch.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SCHEMA_VERSION = "1"
VERSION_KEY = "wanbatch.schema"
"""Where a file says it, in its Parquet metadata."""

_TIME = pa.timestamp("us", tz="UTC")
_DECIMAL = pa.decimal128(18, 6)
PLACES = Decimal("0.000001")
"""What a decimal of the ledger is rounded to."""

ATTEMPTS = pa.schema(
    [
        ("run_id", pa.string()),
        ("key", pa.string()),
        ("id", pa.string()),
        ("attempt", pa.int32()),
        ("manifest", pa.string()),
        ("row", pa.int64()),
        ("service", pa.string()),
        ("region", pa.string()),
        ("model", pa.string()),
        ("prompt", pa.string()),
        ("negative_prompt", pa.string()),
        ("video", pa.string()),
        ("reference_images", pa.list_(pa.string())),
        ("resolution", pa.string()),
        ("ratio", pa.string()),
        ("duration_requested", pa.int32()),
        ("audio_setting", pa.string()),
        ("prompt_extend", pa.bool_()),
        ("watermark", pa.bool_()),
        ("seed", pa.int64()),
        ("task_id", pa.string()),
        ("submit_request_id", pa.string()),
        ("status", pa.string()),
        ("code", pa.string()),
        ("message", pa.string()),
        ("submitted_at", _TIME),
        ("scheduled_at", _TIME),
        ("ended_at", _TIME),
        ("settled_at", _TIME),
        ("queue_s", pa.float64()),
        ("run_s", pa.float64()),
        ("input_video_s", _DECIMAL),
        ("output_video_s", _DECIMAL),
        ("billed_s", _DECIMAL),
        ("video_count", pa.int32()),
        ("sr", pa.int32()),
        ("currency", pa.string()),
        ("unit_price", _DECIMAL),
        ("cost", _DECIMAL),
        ("rate_card", pa.string()),
        ("output", pa.string()),
        ("output_bytes", pa.int64()),
        ("output_sha256", pa.string()),
        ("adopted", pa.bool_()),
        ("tags", pa.map_(pa.string(), pa.string())),
    ],
    metadata={VERSION_KEY: SCHEMA_VERSION},
)
"""One row per attempt, written when it settles, never changed. URLs are without their signatures."""

TOTALS = pa.schema(
    [
        ("run_id", pa.string()),
        ("service", pa.string()),
        ("currency", pa.string()),
        ("resolution", pa.string()),
        ("status", pa.string()),
        ("attempts", pa.int64()),
        ("billed_s", _DECIMAL),
        ("cost", _DECIMAL),
        ("unknown_cost", pa.int64()),
    ],
    metadata={VERSION_KEY: SCHEMA_VERSION},
)
"""By run, service, currency, resolution and status; `unknown_cost` counts what `cost` leaves out."""

_NEVER_EMPTY = {"run_id", "key", "attempt", "status", "settled_at"}
"""Columns that a file can't do without: an attempt is not known without them."""


def version_of(place: str, told: Mapping[bytes, bytes], columns: Collection[str], wanted: pa.Schema) -> str:
    """Say which version a file is of; raises `LedgerError` when it is no file of ours, or of a newer wanbatch."""
    text = told.get(VERSION_KEY.encode(), b"").decode(errors="replace")
    if not (text.isascii() and text.isdigit()):
        raise LedgerError(f"{place}: no file of this ledger; move it away")
    if int(text) > int(SCHEMA_VERSION):
        raise LedgerError(
            f"{place}: written by a newer wanbatch (schema {text}, this one reads up to {SCHEMA_VERSION}); "
            "upgrade wanbatch"
        )
    if lost := sorted((_NEVER_EMPTY & set(wanted.names)) - set(columns)):
        raise LedgerError(f"{place}: has no column {lost[0]}; move it away")
    return text


def upgrade(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Bring what an older version wrote into today's columns; raises `pa.ArrowException` when it does not fit."""
    return pa.table([_upgraded(table, field) for field in wanted], schema=wanted)


def _upgraded(table: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(table.num_rows, field.type)
    column = table[field.name]
    if pa.types.is_decimal(field.type) and pa.types.is_floating(column.type):
        column = pc.round(column.cast(pa.float64()), ndigits=field.type.scale)
    return column.cast(field.type)
