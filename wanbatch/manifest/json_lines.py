"""JSON Lines as cells."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from wanbatch.errors import ManifestError
from wanbatch.manifest.cells import MIB, Cells, open_stream, spread_lists
from wanbatch.manifest.columns import IMAGE_LIST, VIDEO, check_columns, is_known

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from wanbatch.manifest.findings import Findings

_LINE_LIMIT = 256 * MIB
_BATCH_ROWS = 16_384
_BATCH_BYTES = 4 * MIB
_UTF8_MARK = b"\xef\xbb\xbf"


def read_json_lines(path: Path, codec: str | None, findings: Findings) -> Iterator[Cells]:
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
            yield _cells(rows, records, known, findings)
            rows, records, size = [], [], 0
    yield _cells(rows, records, known, findings)


def _lines(path: Path, codec: str | None) -> Iterator[bytes]:
    with open_stream(path, codec) as stream, io.BufferedReader(stream, MIB) as lines:
        first = True
        while line := lines.readline(_LINE_LIMIT):
            if len(line) == _LINE_LIMIT:
                raise ManifestError(
                    f"{path}: a line is longer than {_LINE_LIMIT // MIB} MiB; one object a line"
                )
            yield line.removeprefix(_UTF8_MARK) if first else line
            first = False


def _record(line: bytes, row: int, findings: Findings) -> Mapping[str, Any] | None:
    """Read one line's object, or report why it is none."""
    try:
        record = _DECODER.decode(line.decode().strip())
    except UnicodeDecodeError:
        findings.add(row, "row", "", "is not UTF-8", "save the file as UTF-8")
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


def _cells(
    rows: Sequence[int], records: Sequence[Mapping[str, Any]], names: set[str], findings: Findings
) -> Cells:
    columns: dict[str, pa.StringArray] = {}
    for name in sorted(filter(is_known, names | {VIDEO})):
        values = [record.get(name) for record in records]
        if name == IMAGE_LIST:
            columns |= spread_lists(_lists(values, rows, findings), rows, findings)
        else:
            texts = [_text(value, row, name, findings) for value, row in zip(values, rows, strict=True)]
            columns[name] = pa.array(texts, pa.string())
    return Cells(rows, columns)


def _lists(values: Sequence[Any], rows: Sequence[int], findings: Findings) -> pa.ListArray:
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
