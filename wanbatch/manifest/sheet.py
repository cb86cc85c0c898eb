"""A batch under inspection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from wanbatch.errors import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wanbatch.manifest.cells import Cells
    from wanbatch.manifest.findings import Findings


class Sheet:
    """The rules report what is wrong with its cells, and put the cells into their one form."""

    def __init__(self, cells: Cells, findings: Findings) -> None:
        self.columns = dict(cells.columns)
        self.good = pa.repeat(pa.scalar(value=True), len(cells.rows))
        """Which rows have no error so far."""
        self._rows = cells.rows
        self._findings = findings

    def flag(
        self,
        name: str,
        mask: pa.BooleanArray,
        rule: str,
        mend: str | Callable[[str], str],
        *,
        severity: Severity = Severity.ERROR,
        value: str | None = None,
    ) -> None:
        """Report the rows under the mask; only these become Python objects."""
        if not mask.true_count:
            return
        if severity is Severity.ERROR:
            self.good = pc.and_not(self.good, mask)
        places = pc.indices_nonzero(mask)
        kept = places[: self._findings.room(severity)].to_pylist()
        for place in kept:
            cell = self.columns[name][place].as_py() if value is None else value
            advice = mend if isinstance(mend, str) else mend(cell)
            self._findings.add(self._rows[place], name, cell, rule, advice, severity)
        self._findings.count(severity, len(places) - len(kept), self._rows[places[-1].as_py()])

    def plain(self, name: str, pattern: str) -> bool:
        """Whether every cell has the usual form, which needs no further look; one test instead of many."""
        return bool(pc.all(pc.match_substring_regex(self.columns[name], pattern)).as_py())

    def among(self, name: str, choices: Sequence[str]) -> bool:
        """Whether every cell is one of these."""
        return bool(pc.all(pc.is_in(self.columns[name], pa.array(choices, pa.string()))).as_py())

    def filled(self, name: str) -> bool:
        """Whether the column is there and has a cell that says something."""
        cells = self.columns.get(name)
        return cells is not None and bool(pc.any(pc.not_equal(cells, "")).as_py())

    def set_default(self, name: str, default: str) -> None:
        """Write the default out, so that an empty cell and a cell that says it are the same edit."""
        cells = self.columns.get(name)
        if cells is None:
            self.columns[name] = pa.repeat(default, len(self._rows))
        elif default:
            self.columns[name] = pc.if_else(pc.equal(cells, ""), default, cells)
