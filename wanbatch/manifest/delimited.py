"""CSV and TSV as cells."""

from __future__ import annotations

import codecs
import io
from array import array
from bisect import bisect_right
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import csv

from wanbatch.errors import ManifestError
from wanbatch.manifest.cells import MIB, Cells, marked, open_stream
from wanbatch.manifest.columns import IMAGE_LIST, check_columns, check_video_column, is_known

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from wanbatch.manifest.findings import Findings

_BLOCKS = (1 * MIB, 256 * MIB)
"""Bytes parsed at once. A row must fit in a block, and four reference images inside the row may be large."""


def read_delimited(path: Path, codec: str | None, delimiter: str, findings: Findings) -> Iterator[Cells]:
    """Read with small blocks, and go on with large ones from the first row that does not fit."""
    table = _Table(path, codec, delimiter, findings)
    for block in _BLOCKS:
        try:
            yield from table.read(block)
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                raise ManifestError(
                    f"{path}: there is no table; give a header and at least one row"
                ) from None
            if "straddling" not in str(error):
                raise
        else:
            table.check_last_quote()
            return
    raise ManifestError(
        f"{path}: a row after row {table.done} is longer than {_BLOCKS[-1] // MIB} MiB; close its quote"
    )


class _Table:
    """A delimited file; every cell is read as text, so that no cell can stop the reader."""

    def __init__(self, path: Path, codec: str | None, delimiter: str, findings: Findings) -> None:
        self._path = path
        self._codec = codec
        self._delimiter = delimiter
        self._findings = findings
        self._names: list[str] = []
        self._wrong_rows = array("q")
        self._wrong_widths = array("q")
        self._row = 0
        self._quotes = 0
        self._last_cells: pa.RecordBatch | None = None
        self.done = 0
        """The last row that was handed out or reported; a second pass goes on behind it."""

    def read(self, block: int) -> Iterator[Cells]:
        """Yield the rows that were not yet handed out, parsing `block` bytes at once."""
        self._row = 0
        del self._wrong_rows[:], self._wrong_widths[:]
        with (
            open_stream(self._path, self._codec) as stream,
            _Utf8(stream) as text,
            self._reader(text, block) as reader,
        ):
            self._check_header(reader.schema.names)
            for batch in reader:
                rows = self._number(batch.num_rows)
                new = bisect_right(rows, self.done)
                self.done = self._row
                if batch.num_rows:
                    self._last_cells = batch.slice(batch.num_rows - 1)
                yield _cells(self._names, rows[new:], batch.slice(new))
            self._report_wrong_rows(len(self._wrong_rows))
            self._quotes = text.quotes

    def check_last_quote(self) -> None:
        """Report a quote that is never closed: all that follows it has become one cell of the last row."""
        last = self._last_cells
        if self._quotes % 2 and last is not None and any("\n" in cell.as_py() for (cell,) in last):
            mend = 'close it; a quote inside a quoted cell is doubled: ""'
            self._findings.add(self.done, "row", "", "a quote is never closed", mend)

    def _reader(self, text: _Utf8, block: int) -> csv.CSVStreamingReader:
        return csv.open_csv(
            text,
            read_options=csv.ReadOptions(use_threads=False, block_size=block),
            parse_options=csv.ParseOptions(
                delimiter=self._delimiter,
                newlines_in_values=True,
                invalid_row_handler=self._note_wrong_row,
            ),
            convert_options=csv.ConvertOptions(
                default_column_type=pa.string(), check_utf8=False, strings_can_be_null=False
            ),
        )

    def _check_header(self, names: list[str]) -> None:
        if not self._names:
            self._names = names
            check_columns(names, self._findings)
            check_video_column(names, self._findings)
            _refuse_lists(names, self._findings)

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


def _cells(names: Sequence[str], rows: Sequence[int], batch: pa.RecordBatch) -> Cells:
    columns = {
        name: column
        for name, column in zip(reversed(names), reversed(batch.columns), strict=True)
        if is_known(name) and name != IMAGE_LIST
    }  # reversed: the first of two columns of one name wins
    return Cells(rows, columns)


class _Utf8(io.RawIOBase):
    """A stream with its wrong bytes marked on the way: pyarrow would stop at them, and print where it did."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._ready = b""
        self.quotes = 0
        """How many were read so far."""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Read some bytes, never more than `size`: pyarrow copies them into a buffer of that length."""
        while not self._ready:
            chunk = self._stream.read(max(size, MIB))
            self._ready = marked(self._decoder.decode(chunk, final=not chunk))
            self.quotes += self._ready.count(b'"')
            if not chunk:
                break
        part, self._ready = self._ready[:size], self._ready[size:]
        return part
