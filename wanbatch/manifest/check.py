"""Every problem of every row at once, before any money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from wanbatch.errors import Problem, Severity
from wanbatch.identity import digest, without_signature
from wanbatch.manifest.columns import VIDEO
from wanbatch.manifest.findings import Findings
from wanbatch.manifest.keys import key_texts
from wanbatch.manifest.rules import inspect
from wanbatch.manifest.sources import read_cells

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wanbatch.manifest.rules import Checked

_NO_FILE = "^$|://|^(?i:data:)"


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
    check = Check(path)
    for _ in check.read():
        pass
    return check.report()


class Check:
    """The check of a manifest, for those who go on with its rows in the same reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._findings = Findings()
        self._hashes = [pa.array([], pa.int64())]
        self._rows = 0
        self._local_files = False

    def read(self) -> Iterator[Checked]:
        """Stream the rows, the bad ones too; raises `ManifestError` when the file can't be read at all."""
        for checked in _checked(self.path, self._findings):
            self._local_files = self._local_files or _names_local_files(checked)
            self._hashes += [_hashes(texts) for _, texts in _known_by(checked)]
            self._rows = max(self._rows, checked.rows[-1] if checked.rows else 0)
            yield checked

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with the rows so far, but for ids that are there twice."""
        return not self._findings.total(Severity.ERROR)

    def report(self) -> CheckReport:
        """Say what was found, once all rows are read."""
        rows = max(self._rows, self._findings.last_row)
        repeated = _repeated(self._hashes)
        if len(repeated):
            _report_repeats(self.path, repeated, self._findings)
        return CheckReport(
            rows=rows,
            problems=self._findings.in_order(Severity.ERROR),
            warnings=self._findings.in_order(Severity.WARNING),
            problem_count=self._findings.total(Severity.ERROR),
            warning_count=self._findings.total(Severity.WARNING),
            local_files=self._local_files,
        )


def _checked(path: Path, findings: Findings) -> Iterator[Checked]:
    for cells in read_cells(path, findings):
        yield inspect(cells, path.parent, findings)


def _names_local_files(checked: Checked) -> bool:
    media = (checked.columns[name] for name in (VIDEO, *checked.image_columns()) if name in checked.columns)
    return any(pc.any(pc.invert(pc.match_substring_regex(cells, _NO_FILE))).as_py() for cells in media)


def _known_by(checked: Checked) -> Iterator[tuple[Checked, list[bytes]]]:
    """Say what rows are known by: those with an id by that alone, the others by their edit, unless they are bad.

    A local file counts by its name here: its bytes are read when the manifest runs.
    """
    if VIDEO not in checked.columns:
        return
    ids = checked.columns["id"]
    named = pc.not_equal(ids, "")
    if named.true_count:
        part = checked.where(named)
        yield part, part.columns["id"].cast(pa.binary()).to_pylist()
    nameless = pc.and_not(checked.good, named)
    if nameless.true_count:
        part = checked.where(nameless)
        yield part, key_texts(part, without_signature)


def _hashes(texts: list[bytes]) -> pa.Int64Array:
    return pa.array([hash(text) for text in texts], pa.int64())


def _repeated(hashes: list[pa.Int64Array]) -> pa.Int64Array:
    """Return the hashes that stand there twice; sorting takes less memory than counting."""
    every = pa.concat_arrays(hashes)
    every = every.take(pc.array_sort_indices(every))
    return every[1:].filter(pc.equal(every[1:], every[:-1])).unique()


def _report_repeats(path: Path, repeated: pa.Int64Array, findings: Findings) -> None:
    """Read once more, and compare in full the rows whose hashes are not their own."""
    first: dict[bytes, int] = {}
    for checked in _checked(path, Findings()):
        for part, texts in _known_by(checked):
            for place in pc.indices_nonzero(pc.is_in(_hashes(texts), repeated)).to_pylist():
                row = part.rows[place]
                earlier = first.setdefault(bytes.fromhex(digest(texts[place])), row)
                if earlier != row:
                    _report_repeat(part, place, earlier, findings)


def _report_repeat(part: Checked, place: int, earlier: int, findings: Findings) -> None:
    row, item_id, video = (part.rows[place], *(part.columns[name][place].as_py() for name in ("id", VIDEO)))
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
