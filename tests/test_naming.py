"""Names from untrusted text: they stay in the folder, and never meet."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from wanbatch.models import EditRequest, Item
from wanbatch.naming import output_name, safe_name

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
