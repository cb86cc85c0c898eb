"""Every problem of every row at once, before any money."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from wanbatch.errors import Problem, Severity
from wanbatch.identity import item_key, without_signature
from wanbatch.manifest.columns import VIDEO
from wanbatch.manifest.findings import Findings
from wanbatch.manifest.items import requests
from wanbatch.manifest.rules import Checked, inspect
from wanbatch.manifest.sources import read_cells

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SEPARATOR = b"\x1f"
_NO_FILE = "^$|://|^(?i:data:)"
_EXACT = (
    *("prompt", "negative_prompt", "resolution", "ratio", "duration"),
    *("audio_setting", "prompt_extend", "watermark", "seed"),
)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found; both lists are in row order and hold the first 10,000, the totals count all."""

    rows: int
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    problem_count: int
    warning_count: int
    local_files: bool = False
    """Whether a video or an image is a file of this machine."""

    @property
    def ok(self) -> bool:
        """Whether the manifest can run."""
        return not self.problem_count


def check_manifest(path: Path) -> CheckReport:
    """Read a whole manifest and report everything that is wrong with it, without the network.

    Nothing is held but one batch and 8 bytes a row, to find repeated rows by. Raises `ManifestError` when the
    file can't be read at all: missing, empty, damaged, of no known format.
    """
    findings = Findings()
    fingerprints = [pa.array([], pa.int64())]
    rows, local_files = 0, False
    for checked in _checked(path, findings):
        local_files = local_files or _names_local_files(checked)
        rows = max(rows, checked.rows[-1] if checked.rows else 0)
        fingerprints.append(_fingerprints(checked))
    repeated = _repeated(fingerprints)
    rows = max(rows, findings.last_row)
    if len(repeated):
        _report_repeats(path, repeated, findings)
    return CheckReport(
        rows=rows,
        problems=findings.in_order(Severity.ERROR),
        warnings=findings.in_order(Severity.WARNING),
        problem_count=findings.total(Severity.ERROR),
        warning_count=findings.total(Severity.WARNING),
        local_files=local_files,
    )


def _names_local_files(checked: Checked) -> bool:
    media = (checked.columns[name] for name in (VIDEO, *checked.image_columns()) if name in checked.columns)
    return any(pc.any(pc.invert(pc.match_substring_regex(cells, _NO_FILE))).as_py() for cells in media)


def _checked(path: Path, findings: Findings) -> Iterator[Checked]:
    for cells in read_cells(path, findings):
        yield inspect(cells, path.parent, findings)


def _fingerprints(checked: Checked) -> pa.Int64Array:
    """Hash every row's id, or the edit of a row without one; null for a bad row.

    Rows with equal hashes may be the same, and are compared in full later: a URL counts up to its query here.
    """
    media = [
        _unsigned(checked.columns[name])
        for name in (VIDEO, *checked.image_columns())
        if name in checked.columns
    ]
    plain = [checked.columns[name] for name in _EXACT if name in checked.columns]
    if not media:
        return pa.array([], pa.int64())
    whole = pc.binary_join_element_wise(*(cells.cast(pa.binary()) for cells in (*media, *plain)), _SEPARATOR)
    texts = pc.if_else(checked.good, whole, None)
    ids = checked.columns.get("id")
    if ids is not None:
        named = pc.binary_join_element_wise(b"id", ids.cast(pa.binary()), _SEPARATOR)
        texts = pc.if_else(pc.not_equal(ids, ""), named, texts)
    return pa.array([None if text is None else hash(text) for text in texts.to_pylist()], pa.int64())


def _unsigned(cells: pa.StringArray) -> pa.StringArray:
    signed = pc.any(pc.match_substring(cells, "?")).as_py()
    return pc.replace_substring_regex(cells, r"(?s)\?.*", "") if signed else cells


def _repeated(fingerprints: list[pa.Int64Array]) -> pa.Int64Array:
    """Return the fingerprints that stand there twice; sorting takes less memory than counting."""
    hashes = pa.concat_arrays(fingerprints).drop_null()
    hashes = hashes.take(pc.array_sort_indices(hashes))
    return hashes[1:].filter(pc.equal(hashes[1:], hashes[:-1])).unique()


def _report_repeats(path: Path, repeated: pa.Int64Array, findings: Findings) -> None:
    """Read once more, and compare in full the rows whose fingerprints are not their own."""
    first: dict[bytes, int] = {}
    for checked in _checked(path, Findings()):
        same = pc.is_in(_fingerprints(checked), repeated)
        candidates = _filtered(checked, same)
        for row, key, item_id, video in _identities(candidates):
            earlier = first.setdefault(key, row)
            if earlier == row:
                continue
            if item_id:
                findings.add(row, "id", item_id, f"is the id of row {earlier} too", "give every row its own")
            else:
                findings.add(
                    row,
                    VIDEO,
                    video,
                    f"the same edit as row {earlier}: it is made once",
                    "give the rows ids of their own to have it made again",
                    Severity.WARNING,
                )


def _filtered(checked: Checked, mask: pa.BooleanArray) -> Checked:
    places = pc.indices_nonzero(mask).to_pylist()
    columns = {name: cells.filter(mask) for name, cells in checked.columns.items()}
    return Checked([checked.rows[place] for place in places], columns, checked.good.filter(mask))


def _identities(checked: Checked) -> Iterator[tuple[int, bytes, str, str]]:
    """Yield row, identity, id and video of every row; a row with an id is known by that alone."""
    ids = checked.columns.get("id", pa.repeat(pa.scalar(""), len(checked.rows)))
    named = pc.not_equal(ids, "")
    for place in pc.indices_nonzero(named).to_pylist():
        item_id = ids[place].as_py()
        yield checked.rows[place], _digest(item_id), item_id, ""
    nameless = _filtered(checked, pc.and_not(checked.good, named))
    # A local file counts by its name here: its bytes are read when the manifest runs.
    for row, request in zip(nameless.rows, requests(nameless), strict=True):
        yield row, bytes.fromhex(item_key(request, None, identify=without_signature)), "", request.video


def _digest(item_id: str) -> bytes:
    return hashlib.blake2b(item_id.encode(), digest_size=16).digest()
