"""What the documentation shows is what happens: every command that can be run is run, and what it prints compared."""

from __future__ import annotations

import os
import re
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from tests.conftest import emulated, environment
from tests.console import Player, agree, blocks, commands
from tests.test_flow import serving_prefect
from tests.test_probe import clip
from wanbatch import settings
from wanbatch.cli import reference
from wanbatch.cli.commands import app
from wanbatch.ledger import columns, schema
from wanbatch.manifest.columns import IMAGES, KNOWN, MEANINGS, TAG_PREFIX
from wanbatch.progress import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Account

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))

SECONDS = {"intro": 8, "outro": 5, "logo": 6, "teaser": 4, "credits": 9}
"""How long the videos of the pages are."""
TASKS = {
    "8a41c9be-2f57-4a5e-b7a3-6f0d1c1b2e90": "claymation",
    "c70e5d12-93aa-4f0c-8e51-2b7f9d3c4a11": "pencil",
    "3d2f0b6e-6d43-4a2c-9d0e-0c8f6f1f6a51": "gold",
}
"""What the pages call the provider's tasks, and a word of their prompts."""
_PACE = {"speed": 20.0, "min_run_s": 100.0, "mean_run_s": 110.0, "max_run_s": 120.0}
"""An edit takes a little longer than the 4.5 s between two looks: one that no look sees is found late."""
_VIDEO = re.compile(r"https://media\.example\.com/(\w+)\.mp4")


@dataclass(frozen=True, slots=True)
class Story:
    """Pages that are read one after another, in one folder, on an account of their own."""

    pages: tuple[str, ...]
    faults: tuple[dict[str, Any], ...] = ()


STORIES = (
    Story(("docs/how-to/first-real-run.md", "docs/how-to/budgets.md")),
    Story(("docs/how-to/resume.md", "docs/how-to/schedule.md", "docs/how-to/cost-reports.md")),
    Story(
        ("docs/how-to/in-doubt.md",),
        faults=(
            {"kind": "accept-then-drop", "prompt": "gold", "count": 1},
            {"kind": "drop-before-accept", "prompt": "pencil", "count": 1},
            {"kind": "list-absent"},
        ),
    ),
    Story(("README.md",)),
)
PLAYED = [page for story in STORIES for page in story.pages]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Play every story, all at the same time; gives each page's differences."""
    folder = tmp_path_factory.mktemp("docs")
    with serving_prefect(folder / "server") as (api, _), ThreadPoolExecutor() as pool:
        numbered = enumerate(STORIES)
        played = [pool.submit(play, story, folder / str(number), api) for number, story in numbered]
        return {page: differences for each in played for page, differences in each.result().items()}


def play(story: Story, folder: Path, api: str) -> dict[str, list[str]]:
    """Follow the pages of a story; gives what each of them has wrong."""
    with reader(folder, api) as (player, account):
        account.faults(*story.faults)
        return {page: player.play(ROOT / page) for page in story.pages}


@contextmanager
def reader(folder: Path, api: str) -> Iterator[tuple[Player, Account]]:
    """Give somebody who has a key, an account of their own and the videos that the pages name."""
    media, work = folder / "media", folder / "work"
    media.mkdir(parents=True)
    work.mkdir()
    for name, length in SECONDS.items():
        (media / f"{name}.mp4").write_bytes(clip(frames=10 * length))
    with emulated(media=media, submit_rate=5, query_rate=20, **_PACE) as account:
        origin = f"{account.origin}/media/"

        def told(text: str) -> str:
            for ours, theirs in _tasks(account, text).items():
                text = text.replace(ours, theirs)
            return _VIDEO.sub(lambda name: f"{origin}{name[1]}.mp4?seconds={SECONDS[name[1]]}.00", text)

        def shown(text: str) -> str:
            for ours, theirs in _tasks(account, " ".join(TASKS)).items():
                text = text.replace(theirs, ours)
            return re.sub(r"\?seconds=\d+\.00", "", text.replace(origin, "https://media.example.com/"))

        variables = environment(account, folder / "prefect") | {
            "PREFECT_API_URL": api,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        yield Player(work, variables, told, shown), account


def _tasks(account: Account, text: str) -> dict[str, str]:
    """Find the provider's tasks that a text names."""
    named = {word: name for name, word in TASKS.items() if name in text}
    tasks = account.get("tasks")["tasks"] if named else []
    return {name: task["task_id"] for task in tasks for word, name in named.items() if word in task["prompt"]}


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("docs")
@pytest.mark.parametrize("page", PLAYED)
def test_what_a_page_shows_is_what_happens(page: str, found: dict[str, list[str]]) -> None:
    """Its commands, run in their order in one folder, print what it shows and end as it says."""
    assert not found[page], "\n\n".join(found[page])


def test_every_how_to_is_played() -> None:
    """No page of instructions is left out but the one that needs several machines."""
    there = {str(page.relative_to(ROOT)) for page in (ROOT / "docs/how-to").glob("*.md")}
    assert there - set(PLAYED) == {"docs/how-to/several-machines.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_shown_is_there(page: Path) -> None:
    """What a page calls, run by a test or not, is a command of wanbatch with options that it has."""
    for block in blocks(page):
        if block.language == "console" and "reference" not in page.parts:
            for command in commands(block):
                for called in re.findall(r"(?:^|&& |\w=\S+ )wanbatch (.+?)(?: \d?>.*)?$", command.line):
                    _look_up(called)


def _look_up(called: str) -> None:
    command = typer.main.get_command(app)
    words = shlex.split(called, comments=True)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined] # a group has them
    options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= options | {"--help"}, called


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link inside the project names a file that is there, and a heading that it has."""
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if heading:
            assert heading in _headings(file), f"{page.name}: {target}"


def _headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_up_to_date(name: str) -> None:
    """Each page is what the code says today; `make docs` writes them anew."""
    assert (ROOT / name).read_text(encoding="utf-8") == reference.written(ROOT, name)


def test_everything_announced_is_described() -> None:
    """The events that the code makes are those that the reference has."""
    made = {
        name
        for file in (ROOT / "wanbatch").rglob("*.py")
        for name in re.findall(r'\bannounce\("([\w.]+)"', file.read_text(encoding="utf-8"))
    }
    assert made == set(EVENTS)


def test_every_variable_is_described() -> None:
    """Every variable that the settings name is in the reference, or is a kin of one that says so."""
    text = Path(settings.__file__).read_text(encoding="utf-8")
    named = set(re.findall(r'"((?:OTEL|PREFECT|WANBATCH|DASHSCOPE)_[A-Z_]+[A-Z])"', text))
    kin = {name for name in named if name.startswith("PREFECT_") and name.endswith("_LEVEL")}
    assert "DASHSCOPE_API_KEY" in named
    assert named - kin - {"OTEL_RESOURCE_ATTRIBUTES"} <= set(reference.VARIABLES)


def test_every_ledger_column_has_a_meaning() -> None:
    """The meanings are of the columns that there are, no more and no fewer, in their order."""
    assert list(columns.ATTEMPTS) == schema.ATTEMPTS.names
    assert list(columns.TOTALS) == schema.TOTALS.names


def test_every_manifest_column_has_a_meaning() -> None:
    """The meanings are of the columns that the reader knows; one stands for all reference images."""
    assert set(MEANINGS) == {*KNOWN, TAG_PREFIX} - set(IMAGES[1:])


def test_what_stands_for_anything() -> None:
    """`…` is any text of a line, or any lines where it stands alone; nothing else may differ."""
    assert agree("a\n…\nb…c", "a\nx\ny\nb12c  \n")
    assert agree("a\n…", "a")
    assert not agree("a", "a\nb")
    assert not agree("…b", "a")
