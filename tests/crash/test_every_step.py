"""Death at every step: each change of the journal, each request, each file, before and after, one case each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.crash import books
from tests.crash.nursery import Nursery
from tests.crash.points import DIED
from tests.crash.stage import Stage, stage

_SPEED = 600.0
_SHARDS = 4
_ALIKE = (" tasks", " query", " take_batch", " write_batch", " write_totals", " written")
_ALIKE_TRIED = 2
"""How many looks at the service and entries into the ledger are tried: one is like the other."""
_ROWS = """id,video,prompt,resolution
plain,https://media.example.com/1.mp4?seconds=3.10,as it comes,720P
found,https://media.example.com/2.mp4?seconds=4.20,answer lost after,1080P
again,https://media.example.com/3.mp4?seconds=5.30,answer lost before,720P
fails,https://media.example.com/4.mp4?seconds=6.40,fails once,720P
"""
_FAULTS = (
    {"kind": "accept-then-drop", "prompt": "answer lost after", "count": 1},
    {"kind": "drop-before-accept", "prompt": "answer lost before", "count": 1},
    {"kind": "fail", "prompt": "fails once", "code": "InternalError", "count": 1},
    {"kind": "throttle-rate", "prompt": "as it comes", "count": 1},
    {"kind": "result-break", "prompt": "as it comes", "count": 1},
)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("shard", range(_SHARDS))
def test_death_at_every_step(shard: int, workers: Nursery, tmp_path: Path) -> None:
    """Wherever it dies, the next run ends everything: each row paid once, stored once, entered once."""
    manifest = tmp_path / "rows.csv"
    manifest.write_text(_ROWS, encoding="utf-8")
    times = {"min_run_s": 10, "mean_run_s": 12, "max_run_s": 15}
    died = 0
    with stage(workers, tmp_path, manifest, speed=_SPEED, **times) as scene:
        points = _points(scene)
        for number in range(shard, len(points), _SHARDS):
            _set_again(scene, f"case-{number}")
            died += scene.start(die_at=points[number]).ended() == DIED
            try:
                _check_end(scene)
            except AssertionError as error:
                error.add_note(f"after dying {points[number]}\n{scene.log()}")
                raise
    passed = Counter(name for name, _ in points)
    assert died > len(points) / _SHARDS / 2, f"most runs did not die; the first one passed {passed}"


def _points(scene: Stage) -> list[tuple[str, int]]:
    """Run once without dying; gives every point passed: its name, and for the how manieth time."""
    _set_again(scene, "whole")
    trace = scene.folder / "trace"
    assert scene.start(trace=str(trace)).ended() == 0, scene.log()
    passed, count = list[tuple[str, int]](), Counter[str]()
    for point in trace.read_text(encoding="utf-8").splitlines():
        count[point] += 1
        if count[point] <= _ALIKE_TRIED or not point.endswith(_ALIKE):
            passed.append((point, count[point]))
    return sorted(passed)


def _set_again(scene: Stage, name: str) -> None:
    """Begin anew: no tasks, no bill, the faults still to come, an empty folder."""
    httpx.post(f"{scene.account.origin}/_emulator/reset").raise_for_status()
    scene.account.faults(*_FAULTS)
    scene.folder = scene.manifest.parent / name
    scene.folder.mkdir()


def _check_end(scene: Stage) -> None:
    end = scene.to_the_end()
    assert end["exit_code"] == 0
    found = books.read_books(scene.account, scene.manifest, scene.folder, journal=scene.journal)
    books.check(found)
    assert len(found.ours_billed) == len(found.items)
