"""What the documentation shows of the ledger is run as it stands."""

from __future__ import annotations

import importlib.util
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.rows import a_batch, a_row
from wanbatch.ledger import Ledger
from wanbatch.report.bill import NAMES
from wanbatch.report.spending import GROUPS

DOCS = Path(__file__).parents[1] / "docs"


def example(library: str) -> dict[str, Any]:
    """Run the example for a library in the current folder; gives its variables."""
    text = (DOCS / "ledger.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"```python {library}\n(.*?)```", text, re.DOTALL)
    variables: dict[str, Any] = {}
    exec(compile(code, f"docs/ledger.md, {library}", "exec"), variables)  # noqa: S102 - our own documentation
    return variables


@pytest.fixture(params=["batches", "compacted"])
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Go to a folder with a ledger of three attempts, one of unknown cost."""
    ledger = Ledger(tmp_path / "ledger")
    ledger.write_batch(a_batch("b", a_row("1", cost="0.1"), a_row("2", cost=None)))
    ledger.write_batch(a_batch("c", a_row("3", cost="0.2")))
    if request.param == "compacted":
        ledger.compact()
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_here")
def test_the_pandas_example() -> None:
    """It sums exactly and counts what is unknown."""
    told = example("pandas")
    assert told["paid"].to_dict() == {("USD", "720P"): Decimal("0.3")}
    assert told["unknown"] == 1


@pytest.mark.usefixtures("_here")
def test_the_example_of_sums() -> None:
    """It gives a group's sums, and what they leave out."""
    ((key, found),) = example("sums")["sums"].items()
    assert key == (date(2026, 11, 22), "USD", "x")
    assert (found.attempts, found.cost, found.unknown_cost) == (3, Decimal("0.3"), 1)


@pytest.mark.usefixtures("_here")
@pytest.mark.skipif(importlib.util.find_spec("duckdb") is None, reason="DuckDB is not installed")
def test_the_duckdb_example() -> None:
    """It sums exactly and counts what is unknown."""
    ((currency, month, cost, unknown),) = example("duckdb")["rows"]
    assert (currency, cost, unknown) == ("USD", Decimal("0.3"), 1)
    assert month.astimezone(UTC) == datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.usefixtures("_here")
@pytest.mark.skipif(importlib.util.find_spec("polars") is None, reason="Polars is not installed")
def test_the_polars_example() -> None:
    """It sums exactly."""
    assert example("polars")["paid"].rows() == [("USD", Decimal("0.3"))]


def test_every_grouping_and_bill_column_is_documented() -> None:
    """The names that the code knows are those that the page lists."""
    text = (DOCS / "reports.md").read_text(encoding="utf-8")
    for name in (*GROUPS, *(name for names in NAMES.values() for name in names)):
        assert f"`{name}`" in text
