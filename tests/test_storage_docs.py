"""What the documentation shows of storage is run as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.bucketstore import Store, served_store, store
from tests.conftest import WANBATCH, emulated, environment
from tests.test_flow import prefect_server
from tests.test_probe import clip
from tests.test_walk import attempts
from wanbatch.naming import FIELDS

__all__ = ["prefect_server", "served_store", "store"]

DOCS = Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "storage.md").read_text(encoding="utf-8")


def shown(kind: str) -> str:
    """Give the one block of a kind that the page shows."""
    (block,) = re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)
    return str(block)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.xdist_group("prefect")
def test_the_commands_do_what_the_page_says(tmp_path: Path, prefect_server: str, store: Store) -> None:
    """The manifest is checked and run from a bucket and this disk, by way of a stage, into a bucket."""
    store.make("footage", "finished")
    store.put("footage", "intro.mp4", clip())
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "outro.mp4").write_bytes(clip(frames=40))
    (tmp_path / "clips.csv").write_text(shown("csv"))
    with emulated(render=True, speed=300) as account:
        settings = (
            environment(account, tmp_path / "prefect")
            | store.environment()
            | {"PREFECT_API_URL": prefect_server}
        )
        for line in shown("console").splitlines():
            words = shlex.split(line.removeprefix("$ "))
            assert words[0] == "wanbatch"
            ran = subprocess.run(
                [str(WANBATCH), *words[1:]],
                cwd=tmp_path,
                env=settings,
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr
            assert "Traceback" not in ran.stdout + ran.stderr
        assert "s3://finished/spring" in ran.stdout
        rows = attempts(tmp_path)
        assert sum(row["cost"] for row in rows) == account.billed()
    assert sorted(store.keys("finished")) == ["spring/spring/intro-720p.mp4", "spring/spring/outro-720p.mp4"]
    assert len(store.keys("stage")) == 1
    assert not (tmp_path / "videos").exists()
    for row in rows:
        told = store.head("finished", row["output"].removeprefix("s3://finished/"))
        assert told["Metadata"]["wanbatch-sha256"] == row["output_sha256"]


def test_every_field_of_a_name_is_documented() -> None:
    """The fields that a template may have are those that the page lists."""
    for field in FIELDS:
        assert f"`{{{field}}}`" in TEXT
