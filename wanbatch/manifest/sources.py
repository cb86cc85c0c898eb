"""Any manifest format as batches of text cells.

pyarrow reads and decompresses; nothing is held but one batch. A cell is text in every format, so that there
is one set of rules: a Parquet 5.0, a JSON 5 and a CSV "5" are the same number.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from wanbatch.errors import ManifestError
from wanbatch.manifest.cells import open_stream
from wanbatch.manifest.columns import nearest
from wanbatch.manifest.delimited import read_delimited
from wanbatch.manifest.json_lines import read_json_lines
from wanbatch.manifest.parquet import read_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wanbatch.manifest.cells import Cells
    from wanbatch.manifest.findings import Findings

_DELIMITERS = {".csv": b",", ".tsv": b"\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")
_COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4", ".br": "brotli"}
_FORMATS = (*_DELIMITERS, *_JSON_LINES, *_PARQUET)
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_HEADER_SIZE = 65_536


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
    except UnicodeDecodeError:
        raise ManifestError(f"{path}: a column's name is not UTF-8; write the file anew") from None
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0][:200]
        raise ManifestError(f"{path}: can't be read: {reason}; give a readable manifest") from None


def _batches(path: Path, kind: str, codec: str | None, findings: Findings) -> Iterator[Cells]:
    if kind in _PARQUET:
        return read_parquet(path, findings)
    header = _first_line(path, codec)
    if header[:2] in _UTF16_MARKS:
        raise ManifestError(f"{path}: the file is UTF-16; save it as UTF-8 (Excel: CSV UTF-8)")
    if kind in _JSON_LINES:
        return read_json_lines(path, codec, findings)
    return read_delimited(path, codec, _delimiter(kind, header), findings)


def _delimiter(kind: str, header: bytes) -> str:
    """Where the decimal point is a comma, Excel's CSV is separated by semicolons."""
    usual = _DELIMITERS[kind]
    return (b";" if b";" in header and usual not in header else usual).decode()


def _first_line(path: Path, codec: str | None) -> bytes:
    with open_stream(path, codec) as stream:
        beginning: bytes = stream.read(_HEADER_SIZE)
    return beginning.partition(b"\n")[0].partition(b"\r")[0]
