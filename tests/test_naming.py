"""Names from untrusted text: they stay in the folder, and never meet."""

from __future__ import annotations

import unicodedata
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.conftest import Account, options
from tests.test_troubles import wanbatch
from tests.test_walk import edit
from wanbatch.collisions import name_problems
from wanbatch.emulator.render import tiny_clip
from wanbatch.errors import ExitCode, ManifestError, UsageError
from wanbatch.models import EditRequest, Item, Ratio, Resolution
from wanbatch.naming import NameTemplate, output_name, safe_name

if TYPE_CHECKING:
    from collections.abc import Callable

ANY_TEXT = st.text() | st.text(st.characters()) | st.text("aA._-/\\ é:\0\u0301", max_size=8)
CLEAN = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,40}[a-z0-9_]", fullmatch=True)


@given(ANY_TEXT)
@example("../../etc/passwd")
@example("..")
@example("")
@example("con")
@example("NUL.tar.gz")
@example("\ud800")
@example("x" * 300)
@example("\u202egnp.exe")
def test_stays_in_its_folder(text: str) -> None:
    """Whatever the text, its name is one plain, short, composed component of a path."""
    name = safe_name(text)
    folder = Path("/videos")
    assert (folder / name).resolve() == folder / name
    assert (folder / name).parent == folder
    assert name
    assert name[0] not in ".-"
    assert name[-1] != "."
    assert not set(name) & set('/\\:*?"<>| \0')
    assert name.isprintable()
    assert name.partition(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}
    assert len(name.encode()) <= 120
    assert unicodedata.is_normalized("NFC", name)


@given(ANY_TEXT, ANY_TEXT)
@example("A", "a")
@example("é", "e\u0301")
@example("straße", "strasse")
@example("a/b", "a_b")
@example("x" * 130 + "1", "x" * 130 + "2")
@example("\u0131", "i")
@example("con", "_con")
@example("a", "a.")
def test_distinct_texts_never_meet(one: str, two: str) -> None:
    """Two texts give two names, also on a disk that folds case or Unicode forms."""
    assume(one != two)
    assert _folded(safe_name(one)) != _folded(safe_name(two))


@given(ANY_TEXT, st.sampled_from([str.upper, str.lower, str.swapcase, str.title, str.casefold]))
def test_case_alone_tells_apart(text: str, change: Callable[[str], str]) -> None:
    """A text and the same in another case are two files on every disk."""
    assume(change(text) != text)
    assert _folded(safe_name(text)) != _folded(safe_name(change(text)))


@given(ANY_TEXT)
def test_no_text_poses_as_another(text: str) -> None:
    """The name made for one text, given as a text itself, is not given out again."""
    name = safe_name(text)
    assert name == text or safe_name(name) != name


@given(CLEAN)
def test_clean_names_stay(text: str) -> None:
    """Lower-case letters, digits, `_`, `.` and `-` are kept as they are, and so is the name they gave."""
    assume(text.partition(".")[0] not in {"con", "prn", "aux", "nul"})
    assume(not text.startswith(("com", "lpt")))
    assert safe_name(text) == text


@pytest.mark.parametrize("text", ["镜头_01", "дубль-3", "कुत्ता", "v1.2"])
def test_other_scripts_stay(text: str) -> None:
    """Names in scripts of the whole world are clean too."""
    assert safe_name(text) == text


def test_output_is_named_after_id_else_key() -> None:
    """A row's own id names its video; without one, the key does."""
    key, request = "0123456789abcdef" * 2, EditRequest(video="https://example.com/a.mp4")
    assert output_name(Item(key=key, row=1, request=request, id="shot-1")) == "shot-1.mp4"
    assert output_name(Item(key=key, row=1, request=request)) == f"{key}.mp4"


def _folded(name: str) -> str:
    """Give what a disk that folds case and composition would compare."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


# ---------------------------------------------------------------------------------------------- templates


def an_item(**changed: Any) -> Item:
    """Make an item, but for what is changed."""
    usual: dict[str, Any] = {
        "key": "0123456789abcdef" * 2,
        "row": 7,
        "request": EditRequest(video="s3://bucket/clips/street 1.mov", resolution=Resolution.P720),
        "id": "shot-1",
        "tags": {"team": "red", "scene": "a/b"},
    }
    return Item(**usual | changed)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{id}-{resolution}.mp4", "shot-1-720p.mp4"),
        ("{tag_team}/{row:05}.mp4", "red/00007.mp4"),
        ("{key}.MP4", "0123456789abcdef0123456789abcdef.mp4"),
        ("{source}_{duration}.mp4", f"{safe_name('street 1_0')}.mp4"),
        ("{id}{seed}{ratio}{tag_team}.mp4", "shot-1red.mp4"),
        ("{id}{seed:03}.mp4", "shot-1.mp4"),
        ("{tag_scene}.mp4", f"{safe_name('a/b')}.mp4"),
        ("final/{id}.cut.mp4", "final/shot-1.cut.mp4"),
    ],
)
def test_a_template_is_filled_in(template: str, name: str) -> None:
    """Fields become what the row says; slashes in the template are folders, slashes in the row are not."""
    assert NameTemplate.parse(template).name(an_item()) == name


def test_a_row_without_an_id_has_its_key() -> None:
    """Where a row has no id its key stands for it, and what it says is used where it says it."""
    asked = EditRequest(video="https://h.example/v.mp4?x=1", ratio=Ratio.WIDE, seed=5, duration=3)
    item = an_item(id=None, request=asked, tags={})
    name = NameTemplate.parse("{id}-{source}-{ratio}-{seed:03}-{duration}-{resolution}.mp4").name(item)
    assert name == f"{item.key}-v-16x9-005-3-1080p.mp4"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{nme}.mp4", "there are id, key, row"),
        ("{id.__class__}.mp4", "there is no"),
        ("{tag_a.b}.mp4", "there is no"),
        ("{id!r}.mp4", "takes no such form"),
        ("{id:>99999999}.mp4", "takes no such form"),
        ("{row:99999999}.mp4", "takes no such form"),
        ("{row:{row}}.mp4", "takes no such form"),
        ("{}.mp4", "there is no"),
        ("{id.mp4", "--name"),
        ("{id}", "in folders"),
        (".mp4", "in folders"),
        ("/{id}.mp4", "in folders"),
        ("a//{id}.mp4", "in folders"),
        ("video.mp4", "every video"),
        ("{{id}}.mp4", "every video"),
    ],
)
def test_a_template_that_can_not_be_is_refused(template: str, told: str) -> None:
    """Unknown fields are refused with those there are; nothing of Python's formatting gets in."""
    with pytest.raises(UsageError, match=told):
        NameTemplate.parse(template)


@given(ANY_TEXT, ANY_TEXT)
@example("..", "../..")
@example("/", "\0")
def test_a_template_stays_in_its_folder(item_id: str, tag: str) -> None:
    """Whatever a row says, its video is two folders down and nowhere else."""
    item = an_item(id=item_id or None, tags={"team": tag})
    name = NameTemplate.parse("x/{tag_team}/{id}.mp4").name(item)
    assert len(Path(name).parts) == 3
    assert (Path("/videos") / name).resolve() == Path("/videos") / name


def rows_of(path: Path, *rows: str) -> Path:
    """Write a manifest."""
    path.write_text("\n".join(["id,video,prompt,tag_team", *rows]) + "\n")
    return path


def test_rows_of_one_name_are_found(tmp_path: Path) -> None:
    """Every row whose video's name an earlier row's has is told, with that row; the same edit twice is not."""
    manifest = rows_of(
        tmp_path / "m.csv",
        "a,https://h/1.mp4,clay,red",
        "b,https://h/2.mp4,clay,blue",
        "c,https://h/3.mp4,clay,red",
        ",https://h/4.mp4,clay,green",
        ",https://h/4.mp4,clay,green",
    )
    (problem,) = name_problems(manifest, NameTemplate.parse("{tag_team}.mp4"))
    assert (problem.row, problem.value) == (3, "red.mp4")
    assert "row 1" in str(problem)
    assert name_problems(manifest, NameTemplate.parse("{tag_team}-{id}.mp4")) == []


def test_a_tag_that_no_row_has_is_refused(tmp_path: Path) -> None:
    """A tag that is nowhere in the manifest is a slip, and those that are there are named."""
    manifest = rows_of(tmp_path / "m.csv", "a,https://h/1.mp4,clay,red")
    with pytest.raises(UsageError, match="no row has tag_scene; the manifest has tag_team"):
        name_problems(manifest, NameTemplate.parse("{id}-{tag_scene}.mp4"))


async def test_nothing_is_paid_when_names_meet(tmp_path: Path, account: Account) -> None:
    """A run refuses a template that gives two rows one name, and names the rows."""
    manifest = rows_of(tmp_path / "m.csv", "a,https://h/1.mp4,clay,red", "b,https://h/2.mp4,clay,red")
    with pytest.raises(ManifestError) as caught:
        await edit(options(tmp_path, manifest, name="{tag_team}.mp4"))
    assert [problem.row for problem in caught.value.problems] == [2]
    assert account.get("tasks")["tasks"] == []
    summary = await edit(options(tmp_path, manifest, name="{tag_team}/{id}-{resolution}.mp4"))
    assert summary.exit_code is ExitCode.OK
    assert {path.name for path in (tmp_path / "videos" / "red").iterdir()} == {"a-1080p.mp4", "b-1080p.mp4"}


def test_check_tells_names_that_meet_and_the_temporary_store(tmp_path: Path) -> None:
    """`wanbatch check --name` fails on rows of one name; local files get a line about where they would go."""
    tiny_clip(Decimal(3), tmp_path / "v.mp4")
    rows_of(tmp_path / "m.csv", "a,v.mp4,clay,red", "b,https://h/2.mp4,clay,red")
    told = wanbatch(tmp_path, "check", "m.csv", "--name", "{tag_team}.mp4")
    assert told.returncode == ExitCode.USAGE
    assert "red.mp4" in told.stdout
    assert wanbatch(tmp_path, "check", "m.csv", "--name", "{nme}.mp4").returncode == ExitCode.USAGE
    told = wanbatch(tmp_path, "check", "m.csv", "--name", "{id}.mp4")
    assert told.returncode == 0
    assert "not meant for production" in " ".join(told.stdout.split())
    assert "--stage" in told.stdout
