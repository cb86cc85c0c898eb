import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from wanbatch.manifest import check_manifest, read_manifest
from wanbatch.manifest.columns import IMAGES, KNOWN
from wanbatch.models import Resolution

FOLDER = Path(__file__).parents[1] / "manifests"
CLIPS = ("street.mp4", "dancer.mp4", "ball.mp4", "product.mp4", "jacket.png")


def test_the_demo_is_good_beside_its_clips(tmp_path: Path) -> None:
    """With the sample clips in place the demo's manifest has no problem, and shows what there is to show."""
    shutil.copy(FOLDER / "demo.csv", tmp_path)
    (tmp_path / "clips").mkdir()
    for clip in CLIPS:
        (tmp_path / "clips" / clip).write_text(clip)
    report = check_manifest(tmp_path / "demo.csv")
    assert (report.rows, report.problems, report.warnings) == (8, (), ())
    items = list(read_manifest(tmp_path / "demo.csv"))
    assert len({item.key for item in items}) == 8
    assert all(item.id and item.tags["campaign"] for item in items)
    assert {item.request.resolution for item in items} == set(Resolution)
    assert any(item.request.duration for item in items)
    assert any(item.request.ratio for item in items)
    assert any(item.request.reference_images for item in items)


def test_the_demo_in_place_misses_its_clips() -> None:
    """The clips are made by the demo: in the source tree only they are missing."""
    report = check_manifest(FOLDER / "demo.csv")
    assert {problem.rule for problem in report.problems} == {"there is no such file"}
    assert {Path(problem.value).name for problem in report.problems} == set(CLIPS)


def test_the_example_is_what_its_recipe_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python in the README writes the table that lies beside it, and the table is a good manifest."""
    (recipe,) = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(recipe, {})  # noqa: S102 - our own README, as a reader would run it
    assert pq.read_table("example.parquet").equals(pq.read_table(FOLDER / "example.parquet"))
    report = check_manifest(FOLDER / "example.parquet")
    assert (report.rows, report.problems, report.warnings) == (3, (), ())


def test_every_column_is_described() -> None:
    """The README's table has the columns that the reader knows, and no others."""
    text = (FOLDER / "README.md").read_text()
    described = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) - {"tag_"}
    assert described == set(KNOWN) - set(IMAGES[1:])
