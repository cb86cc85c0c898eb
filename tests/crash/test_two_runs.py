"""Two runs at once on one manifest, one journal and one ledger: they share the work and never do any of it twice."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tests.crash import books, story
from tests.crash.nursery import Nursery
from tests.crash.points import DIED
from tests.crash.stage import Stage, stage
from wanbatch.errors import ExitCode
from wanbatch.journal import Attempt, Journal, State

pytest_plugins = ("tests.postgres",)
pytestmark = pytest.mark.slow

_SPEED = 60.0
_QUICK = {"min_run_s": 6, "mean_run_s": 9, "max_run_s": 15}
_LOST_ANSWERS = (
    {"kind": "accept-then-drop", "p": 0.15},
    {"kind": "drop-before-accept", "p": 0.15},
    {"kind": "fail", "p": 0.1, "code": "InternalError"},
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgres"))])
def journal(request: pytest.FixtureRequest) -> str | None:
    """Give the journal's URL on each kind of database; None is the file beside the ledger."""
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("postgres_url")
    return url


def test_two_runs_share_the_work(journal: str | None, workers: Nursery, tmp_path: Path) -> None:
    """Both end by themselves, and together they edit every row once."""
    manifest = story.write_rows(tmp_path / "rows.csv", seed=1, rows=16)
    with stage(workers, tmp_path, manifest, speed=_SPEED, **_QUICK) as scene:
        scene.options["journal"] = journal
        scene.account.faults(*_LOST_ANSWERS)
        pair = [scene.start(), scene.start()]
        codes = {run.ended() for run in pair}
        assert codes <= {ExitCode.OK, ExitCode.SOME_FAILED, ExitCode.INCOMPLETE, ExitCode.PARKED}, scene.log()
        found = _checked_end(scene)
    assert len(Counter(attempt.run_id for attempt in found.attempts)) >= 2, "one run did all the work"


def test_the_other_run_outlives_one_that_dies(journal: str | None, workers: Nursery, tmp_path: Path) -> None:
    """A run whose neighbour died with a submit on its way still ends, and the next run settles what was left."""
    manifest = story.write_rows(tmp_path / "rows.csv", seed=2, rows=16)
    with stage(workers, tmp_path, manifest, speed=_SPEED, **_QUICK) as scene:
        scene.options["journal"] = journal
        scene.account.faults(*_LOST_ANSWERS)
        dying = scene.start(die_at=("before submit", 5))
        other = scene.start()
        assert dying.ended() == DIED
        assert other.ended(within_s=30) != ExitCode.BUG, scene.log()
        _checked_end(scene)


def test_a_person_may_resolve_what_a_run_is_looking_into(workers: Nursery, tmp_path: Path) -> None:
    """A run whose doubt is settled by hand lets go of it, ends, and the next run takes the edit up."""
    manifest = story.write_rows(tmp_path / "rows.csv", seed=3, rows=2)
    with stage(workers, tmp_path, manifest, speed=_SPEED, min_run_s=90, mean_run_s=90, max_run_s=90) as scene:
        scene.account.faults({"kind": "accept-then-drop", "nth": 1})
        run = scene.start()
        doubt = _doubt(scene)
        known = {attempt.task_id for attempt in books.read_attempts(scene.journal)}
        (task_id,) = {task["task_id"] for task in scene.account.get("tasks")["tasks"]} - known
        journal = Journal.open(scene.journal)
        journal.adopted(doubt, task_id=task_id, submitted_at=None, who="a person", why="seen in the console")
        journal.close()
        assert run.ended(within_s=30) == ExitCode.INCOMPLETE, scene.log()
        _checked_end(scene)


def _doubt(scene: Stage) -> Attempt:
    """Wait until both rows are submitted, and give the one in doubt."""
    for _ in range(200):
        if Path(scene.journal).exists():
            states = {attempt.state: attempt for attempt in books.read_attempts(scene.journal)}
            if {State.IN_DOUBT, State.ACCEPTED} <= states.keys():
                return states[State.IN_DOUBT]
        time.sleep(0.02)
    raise AssertionError(f"no doubt came up\n{scene.log()}")


def _checked_end(scene: Stage) -> books.Books:
    scene.to_the_end()
    found = books.read_books(scene.account, scene.manifest, scene.folder, journal=scene.journal)
    books.check(found)
    return found
