"""Parquet as cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from wanbatch.manifest.cells import MIB, Cells, spread_lists, text_column
from wanbatch.manifest.columns import IMAGE_LIST, check_columns, check_video_column, is_known

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from wanbatch.manifest.findings import Findings

_BATCH_ROWS = 4_096


def read_parquet(path: Path, findings: Findings) -> Iterator[Cells]:
    """Stream a Parquet file's rows; columns that are none of ours are not even read."""
    # Without pre-buffering, a row group of any size is read page by page.
    with pq.ParquetFile(str(path), pre_buffer=False, buffer_size=MIB) as file:
        schema = file.schema_arrow
        check_columns(schema.names, findings)
        check_video_column(schema.names, findings)
        _check_types(schema, findings)
        names = [field.name for field in schema if is_known(field.name) and _is_cell(field)]
        row = 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names, use_threads=False):
            rows = range(row + 1, row + 1 + batch.num_rows)
            row += batch.num_rows
            yield _cells(batch, rows, findings)


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
        and not pa.types.is_nested(kind.value_type)
    )


def _is_cell(field: pa.Field) -> bool:
    return _is_list(field.type) if field.name == IMAGE_LIST else not pa.types.is_nested(field.type)


def _check_types(schema: pa.Schema, findings: Findings) -> None:
    for field in schema:
        if is_known(field.name) and not _is_cell(field):
            mend = "write a list of text" if field.name == IMAGE_LIST else "write text, numbers or booleans"
            findings.add(0, field.name, str(field.type), "is no type for this column", mend)


def _cells(batch: pa.RecordBatch, rows: Sequence[int], findings: Findings) -> Cells:
    columns: dict[str, pa.StringArray] = {}
    for name, column in zip(reversed(batch.schema.names), reversed(batch.columns), strict=True):
        if name == IMAGE_LIST:
            columns |= spread_lists(column, rows, findings)
        else:
            columns[name] = text_column(column)
    return Cells(rows, columns)
