"""Any manifest format as batches of text cells.

pyarrow reads and decompresses; nothing is held but one batch. A cell is text in every format, so that there
is one set of rules: a Parquet 5.0, a JSON 5 and a CSV "5" are the same number.
"""

from __future__ import annotations

import io
import json
from array import array
from bisect import bisect_right
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from wanbatch.errors import ManifestError
from wanbatch.manifest.columns import (
    IMAGE_LIST,
    LISTED_IMAGES,
    VIDEO,
    check_columns,
    check_video_column,
    is_known,
    nearest,
)
from wanbatch.models import REFERENCE_IMAGE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from wanbatch.manifest.findings import Findings

_MIB = 1 << 20
_CSV_BLOCKS = (1 * _MIB, 256 * _MIB)
"""Bytes parsed at once. A row must fit in a block, and four reference images inside the row may be large."""
_LINE_LIMIT = 256 * _MIB
_BATCH_ROWS = 16_384
_BATCH_BYTES = 8 * _MIB
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = frozenset({".jsonl", ".ndjson"})
_PARQUET = frozenset({".parquet", ".pq"})
_COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4", ".br": "brotli"}
_FORMATS = (*_DELIMITERS, *_JSON_LINES, *_PARQUET)
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_NOT_UTF8 = ("is not UTF-8", "save the file as UTF-8")


@dataclass(frozen=True, slots=True)
class Cells:
    """Some rows: their numbers, counted from 1, and their cells by column; an empty cell is ''."""

    rows: Sequence[int]
    columns: Mapping[str, pa.StringArray]


def read_cells(path: Path, findings: Findings) -> Iterator[Cells]:
    """Stream a manifest's rows; what can't become cells goes into `findings`.

    Raises `ManifestError` when the file can't be read at all: missing, empty, damaged, of no known format.
    """
    kind, codec = _format(path)
    with _readable(path, kind):
        if path.stat().st_size == 0:
            raise ManifestError(
                f"{path}: the file is empty; give a manifest with a header and at least one row"
            )
        empty = True
        for cells in _batches(path, kind, codec, findings):
            empty = empty and not cells.rows
            yield cells
    if empty and not findings.last_row:
        findings.add(0, "", "", "there are no rows", "add at least one row under the header")


def _format(path: Path) -> tuple[str, str | None]:
    """Tell format and compression by the file's name."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    codec = _COMPRESSED.get(suffixes[-1]) if suffixes else None
    kind = "".join(suffixes[-2:-1] if codec else suffixes[-1:])
    if kind in _PARQUET and codec:
        raise ManifestError(f"{path}: Parquet is compressed inside; give the .parquet file itself")
    if kind in _FORMATS:
        return kind, codec
    meant = nearest(kind, _FORMATS)
    raise ManifestError(
        f"{path}: unknown format {kind!r}{f' (did you mean {meant}?)' if meant else ''}; name it "
        f"{', '.join(_FORMATS)}, the text formats also with {', '.join(_COMPRESSED)}"
    )


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a damaged file makes the readers raise into one line."""
    try:
        yield
    except pa.ArrowException as error:
        reason = str(error).partition("\n")[0][:200]
        raise ManifestError(f"{path}: not readable as {kind}: {reason}; write the file anew") from None
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0][:200]
        raise ManifestError(f"{path}: can't be read: {reason}; give a readable manifest") from None


def _batches(path: Path, kind: str, codec: str | None, findings: Findings) -> Iterator[Cells]:
    if kind in _PARQUET:
        return _parquet(path, findings)
    _refuse_utf16(path, codec)
    if kind in _JSON_LINES:
        return _json_lines(path, codec, findings)
    return _csv(path, codec, _DELIMITERS[kind], findings)


def _open(path: Path, codec: str | None) -> pa.NativeFile:
    return pa.input_stream(str(path), compression=codec, buffer_size=_MIB)


def _refuse_utf16(path: Path, codec: str | None) -> None:
    with _open(path, codec) as stream:
        if stream.read(2) in _UTF16_MARKS:
            raise ManifestError(f"{path}: the file is UTF-16; save it as UTF-8 (Excel: CSV UTF-8)")


# CSV and TSV


def _csv(path: Path, codec: str | None, delimiter: str, findings: Findings) -> Iterator[Cells]:
    """Read with small blocks, and go on with large ones from the first row that does not fit."""
    table = _CsvTable(path, codec, delimiter, findings)
    for block in _CSV_BLOCKS:
        try:
            yield from table.read(block)
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error):
                raise
        else:
            table.check_last_quote()
            return
    raise ManifestError(
        f"{path}: a row after row {table.done} is longer than {_CSV_BLOCKS[-1] // _MIB} MiB; close its quote"
    )


class _CsvTable:
    """A delimited file; every cell is read as bytes, so that no cell can stop the reader."""

    def __init__(self, path: Path, codec: str | None, delimiter: str, findings: Findings) -> None:
        self._path = path
        self._codec = codec
        self._delimiter = delimiter
        self._findings = findings
        self._names: list[str] = []
        self._wrong_rows = array("q")
        self._wrong_widths = array("q")
        self._row = 0
        self._last_cells: pa.RecordBatch | None = None
        self.done = 0
        """The last row that was handed out or reported; a second pass goes on behind it."""

    def read(self, block: int) -> Iterator[Cells]:
        """Yield the rows that were not yet handed out, parsing `block` bytes at once."""
        self._row = 0
        del self._wrong_rows[:], self._wrong_widths[:]
        with _open(self._path, self._codec) as stream, self._reader(stream, block) as reader:
            self._check_header(reader)
            for batch in reader:
                rows = self._number(batch.num_rows)
                new = bisect_right(rows, self.done)
                self.done = self._row
                if batch.num_rows:
                    self._last_cells = batch.slice(batch.num_rows - 1)
                yield _csv_cells(self._names, rows[new:], batch.slice(new), self._findings)
            self._report_wrong_rows(len(self._wrong_rows))

    def check_last_quote(self) -> None:
        """Report a quote that is never closed: all that follows it has become one cell of the last row."""
        if self._last_cells is None or not any(b"\n" in cell.as_py() for (cell,) in self._last_cells):
            return
        with _open(self._path, self._codec) as stream:
            quotes = sum(chunk.count(b'"') for chunk in iter(lambda: stream.read(_MIB), b""))
        if quotes % 2:
            mend = 'close it; a quote inside a quoted cell is doubled: ""'
            self._findings.add(self.done, "row", "", "a quote is never closed", mend)

    def _reader(self, stream: pa.NativeFile, block: int) -> csv.CSVStreamingReader:
        return csv.open_csv(
            stream,
            read_options=csv.ReadOptions(use_threads=False, block_size=block),
            parse_options=csv.ParseOptions(
                delimiter=self._delimiter,
                newlines_in_values=True,
                invalid_row_handler=self._note_wrong_row,
            ),
            convert_options=csv.ConvertOptions(
                default_column_type=pa.binary(), check_utf8=False, strings_can_be_null=False
            ),
        )

    def _check_header(self, reader: csv.CSVStreamingReader) -> None:
        if self._names:
            return
        try:
            self._names = reader.schema.names
        except UnicodeDecodeError:
            raise ManifestError(f"{self._path}: the header {_NOT_UTF8[0]}; {_NOT_UTF8[1]}") from None
        check_columns(self._names, self._findings)
        check_video_column(self._names, self._findings)
        _refuse_lists(self._names, self._findings)

    def _note_wrong_row(self, row: csv.InvalidRow) -> str:
        self._wrong_rows.append(row.number - 1)  # the header is number 1
        self._wrong_widths.append(row.actual_columns)
        return "skip"

    def _number(self, count: int) -> Sequence[int]:
        """Give `count` good rows their numbers; the wrong rows between them have numbers too."""
        first = self._row + 1
        passed = 0
        while passed < len(self._wrong_rows) and self._wrong_rows[passed] < first + count + passed:
            passed += 1
        rows: Sequence[int] = range(first, first + count)
        if passed:
            wrong = set(self._wrong_rows[:passed])
            rows = [row for row in range(first, first + count + passed) if row not in wrong]
        self._row += count + passed
        self._report_wrong_rows(passed)
        return rows

    def _report_wrong_rows(self, count: int) -> None:
        rule = f"the header has {len(self._names)}"
        for row, width in islice(zip(self._wrong_rows, self._wrong_widths, strict=True), count):
            if row > self.done:
                self._findings.add(row, "row", f"{width} cells", rule, "check its delimiters and quotes")
        del self._wrong_rows[:count], self._wrong_widths[:count]


def _refuse_lists(names: Sequence[str], findings: Findings) -> None:
    if IMAGE_LIST in names:
        findings.add(
            0, IMAGE_LIST, "", "text files have no lists", "use reference_image_1 to reference_image_4"
        )


def _csv_cells(names: Sequence[str], rows: Sequence[int], batch: pa.RecordBatch, findings: Findings) -> Cells:
    columns = {
        name: _utf8(column, name, rows, findings)
        for name, column in zip(reversed(names), reversed(batch.columns), strict=True)
        if is_known(name) and name != IMAGE_LIST
    }  # reversed: the first of two columns of one name wins
    return Cells(rows, columns)


def _utf8(column: pa.Array, name: str, rows: Sequence[int], findings: Findings) -> pa.StringArray:
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
        findings.add(row, name, text, *_NOT_UTF8)
        return text


# JSON Lines


def _json_lines(path: Path, codec: str | None, findings: Findings) -> Iterator[Cells]:
    """Parse line by line: a bad line is one problem of one row, whatever stands in the others."""
    known: set[str] = set()
    row, size = 0, 0
    rows: list[int] = []
    records: list[Mapping[str, Any]] = []
    for line in _lines(path, codec):
        if not line.strip():
            continue
        row += 1
        size += len(line)
        record = _record(line, row, findings)
        if record is None:
            continue
        _check_new_columns(record, known, row, findings)
        rows.append(row)
        records.append(record)
        if len(rows) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield _json_cells(rows, records, known, findings)
            rows, records, size = [], [], 0
    yield _json_cells(rows, records, known, findings)


def _lines(path: Path, codec: str | None) -> Iterator[bytes]:
    with _open(path, codec) as stream, io.BufferedReader(stream, _MIB) as lines:
        first = True
        while line := lines.readline(_LINE_LIMIT):
            if len(line) == _LINE_LIMIT:
                raise ManifestError(
                    f"{path}: a line is longer than {_LINE_LIMIT // _MIB} MiB; one object a line"
                )
            yield line.removeprefix(_UTF8_MARK) if first else line
            first = False


def _record(line: bytes, row: int, findings: Findings) -> Mapping[str, Any] | None:
    """Read one line's object, or report why it is none."""
    try:
        record = _DECODER.decode(line.decode().strip())
    except UnicodeDecodeError:
        findings.add(row, "row", "", *_NOT_UTF8)
    except _RepeatedName as error:
        findings.add(row, str(error), "", "stands there twice", "keep one of the two")
    except (ValueError, RecursionError):
        findings.add(row, "row", "", "is not JSON", "write one object a line")
    else:
        if isinstance(record, dict):
            return record
        findings.add(row, "row", "", "is not a JSON object", 'write {"video": …} on every line')
    return None


class _RepeatedName(ValueError):  # noqa: N818 - never leaves this module
    """A JSON object says one name twice; most readers would silently take the last."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedName(next(name for name in names if names.count(name) > 1))
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)


def _check_new_columns(record: Mapping[str, Any], known: set[str], row: int, findings: Findings) -> None:
    new = [name for name in record if name not in known]
    if new:
        check_columns([_printable(name) for name in new], findings, row=row)
        known.update(new)


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _json_cells(
    rows: Sequence[int], records: Sequence[Mapping[str, Any]], names: set[str], findings: Findings
) -> Cells:
    columns: dict[str, pa.StringArray] = {}
    for name in sorted(filter(is_known, names | {VIDEO})):
        values = [record.get(name) for record in records]
        if name == IMAGE_LIST:
            columns |= _listed(_json_lists(values, rows, findings), rows, findings)
        else:
            texts = [_text(value, row, name, findings) for value, row in zip(values, rows, strict=True)]
            columns[name] = pa.array(texts, pa.string())
    return Cells(rows, columns)


def _json_lists(values: Sequence[Any], rows: Sequence[int], findings: Findings) -> pa.ListArray:
    lists = []
    for value, row in zip(values, rows, strict=True):
        if value is not None and not isinstance(value, list):
            findings.add(row, IMAGE_LIST, "", "is not a list", 'write ["first.png", "second.png"]')
            value = None  # noqa: PLW2901 - the cell is reported, the row goes on without it
        lists.append([_text(each, row, IMAGE_LIST, findings) for each in value or ()])
    return pa.array(lists, pa.list_(pa.string()))


def _text(value: Any, row: int, name: str, findings: Findings) -> str:
    """Write a JSON scalar as a CSV cell would have it."""
    if isinstance(value, str):
        if value.isascii() or _encodable(value):
            return value
        findings.add(row, name, _printable(value), "has half a surrogate pair", "write the whole character")
        return _printable(value)
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    findings.add(row, name, "", "is a list or an object", "write text, a number, true or false")
    return ""


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


# Parquet


def _parquet(path: Path, findings: Findings) -> Iterator[Cells]:
    # Without pre-buffering, a row group of any size is read page by page.
    with pq.ParquetFile(str(path), pre_buffer=False, buffer_size=_MIB) as file:
        schema = file.schema_arrow
        check_columns(schema.names, findings)
        check_video_column(schema.names, findings)
        _check_types(schema, findings)
        names = [field.name for field in schema if is_known(field.name) and _is_cell(field)]
        row = 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names, use_threads=False):
            rows = range(row + 1, row + 1 + batch.num_rows)
            row += batch.num_rows
            yield _parquet_cells(batch, rows, findings)


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


def _parquet_cells(batch: pa.RecordBatch, rows: Sequence[int], findings: Findings) -> Cells:
    columns: dict[str, pa.StringArray] = {}
    for name, column in zip(reversed(batch.schema.names), reversed(batch.columns), strict=True):
        if name == IMAGE_LIST:
            columns |= _listed(column, rows, findings)
        else:
            columns[name] = _as_text(column, name, rows, findings)
    return Cells(rows, columns)


def _listed(lists: pa.Array, rows: Sequence[int], findings: Findings) -> dict[str, pa.StringArray]:
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
        name: _as_text(pc.list_element(fixed, place), name, rows, findings)
        for place, name in enumerate(LISTED_IMAGES)
    }


def _as_text(column: pa.Array, name: str, rows: Sequence[int], findings: Findings) -> pa.StringArray:
    """Write any column of scalars as text; null and NaN are empty cells."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    if _may_be_bad_text(column.type):
        column = _utf8(column.cast(pa.binary()), name, rows, findings)
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
