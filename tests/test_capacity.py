"""The capacity model: what it says follows from its figures, and the documentation says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.capacity import Costs, Fleet, load, most_items_per_s, table

SCALE = Path(__file__).parent.parent / "docs" / "scale.md"


def test_slots_decide_what_an_account_finishes() -> None:
    """Five slots of edits of 188 seconds are 2,298 a day, and a hundred accounts finish a hundred times that."""
    assert round(load(Fleet(), Costs()).items_per_day) == 2_298
    assert load(Fleet(accounts=100), Costs()).items_per_s == pytest.approx(500 / 188)


def test_the_submit_rate_decides_where_slots_are_many() -> None:
    """An account takes no more than its submit rate, however many slots it has."""
    assert load(Fleet(slots=5_000), Costs()).items_per_s == pytest.approx(5 / 1.1)


def test_figures_of_a_test_run_take_the_place_of_those_that_are_written_down() -> None:
    """What the cluster test prints changes the load in proportion, and what it leaves out stays."""
    costs = Costs.measured({"per_item": {"workers_cpu_ms": 1_000.0, "server_cpu_ms": 500.0}})
    told = load(Fleet(slots=188), costs)
    assert (told.worker_cores, told.server_cores) == (1.0, 0.5)
    assert most_items_per_s(costs) == 2.0
    assert costs.task_runs == Costs().task_runs


def test_the_documentation_has_the_model_s_own_table() -> None:
    """The table in docs/scale.md is what the model prints."""
    assert table(Costs()) in SCALE.read_text(encoding="utf-8")
