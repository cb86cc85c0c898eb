"""Death at every step: each change of the journal, each request, each file, before and after, one case each."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.crash import books, points
from tests.crash.nursery import Nursery
from tests.crash.stage import Stage, stage

_SPEED = 300.0
_SHARDS = 6
_POLLS = 3
"""How many of the many looks at the service are tried: one is like the other."""
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


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("shard", range(_SHARDS))
def test_death_at_every_step(shard: int, workers: Nursery, tmp_path: Path) -> None:
    """Wherever it dies, the next run ends everything: each row paid once, stored once, entered once."""
    manifest = tmp_path / "rows.csv"
    manifest.write_text(_ROWS, encoding="utf-8")
    passed = _points(workers, tmp_path / "whole", manifest)
    died = Counter[str]()
    for number, (point, nth) in enumerate(passed):
        if number % _SHARDS != shard:
            continue
        with _fresh(workers, tmp_path / f"{number}", manifest) as scene:
            status = scene.start(die_at=(point, nth)).ended()
            died[point] += status == points.DIED
            end = scene.to_the_end()
            found = books.read_books(scene.account, manifest, scene.folder)
            try:
                assert end["exit_code"] == 0
                books.check(found)
                assert len(found.ours_billed) == len(found.items)
            except AssertionError as error:
                error.add_note(f"after dying {point} for the {nth}. time\n{scene.log()}")
                raise
        shutil.rmtree(scene.folder)
    assert died, "no run died: the points are not where they were"


def _points(workers: Nursery, folder: Path, manifest: Path) -> list[tuple[str, int]]:
    """Run once without dying; gives every point passed, as its name and the how manieth time it was."""
    with _fresh(workers, folder, manifest) as scene:
        trace = folder / "trace"
        assert scene.start(trace=str(trace)).ended() == 0, scene.log()
    passed, count = list[tuple[str, int]](), Counter[str]()
    for point in trace.read_text(encoding="utf-8").splitlines():
        count[point] += 1
        looks = point.endswith((" tasks", " query"))
        if not looks or count[point] <= _POLLS:
            passed.append((point, count[point]))
    return sorted(passed)


@contextmanager
def _fresh(workers: Nursery, folder: Path, manifest: Path) -> Iterator[Stage]:
    """Give a stage of its own to one case."""
    folder.mkdir()
    quick = {"speed": _SPEED, "min_run_s": 10, "mean_run_s": 12, "max_run_s": 15}
    with stage(workers, folder, manifest, **quick) as scene:
        scene.account.faults(*_FAULTS)
        yield scene
