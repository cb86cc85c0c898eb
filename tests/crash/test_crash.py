"""The promises under everything at once: a service that misbehaves, strangers, and a worker killed at any moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tests.crash import books, story
from tests.crash.nursery import Nursery
from tests.crash.stage import stage
from wanbatch.errors import ExitCode

_SPEED = 100.0
_SEEDS = int(os.environ.get("CRASH_SEEDS", "12"))
_FIRST = int(os.environ.get("CRASH_FIRST", "0"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(_FIRST, _FIRST + _SEEDS))
def test_killed_at_random(
    seed: int, workers: Nursery, tmp_path: Path, record_property: Callable[[str, str], None]
) -> None:
    """However often it is killed, nothing is paid twice, nothing paid is lost, and the books agree with the bill."""
    told = story.draw(seed)
    manifest = story.write_rows(tmp_path / "rows.csv", seed)
    with stage(
        workers,
        tmp_path,
        manifest,
        speed=_SPEED,
        skew_s=told.skew_s,
        seed=seed,
        min_run_s=8,
        mean_run_s=20,
        max_run_s=40,
    ) as scene:
        if told.budget:
            scene.options["budget"] = told.budget
        scene.account.faults(*told.faults)
        for lives_s, gently, strangers in zip(told.kills, told.gently, told.strangers, strict=True):
            run = scene.start()
            httpx.post(f"{scene.account.origin}/_emulator/strangers", json=strangers).raise_for_status()
            run.kill(after_s=lives_s, gently=gently)
        end = scene.to_the_end()
        found = books.read_books(scene.account, manifest, tmp_path, journal=scene.journal)
        for name, figure in {"starts": str(scene.starts), **found.figures()}.items():
            record_property(name, figure)
        cap = Decimal(told.budget.partition("/")[0]) if told.budget else None
        books.check(found, cap=cap, untouched=bool(end["reason"]))
        assert (end["exit_code"] == ExitCode.PARKED) == bool(found.parked)
        assert sorted(end["parked"]) == sorted(attempt.item.name for attempt in found.parked)
