"""Plays what the documentation shows: its files, its commands in their order, and what they print."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

NOT_RUN = "no-run"
"""Behind `console`: a block that needs what no test has, such as a service that is paid."""
_BLOCK = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROGRESS = re.compile(r"^[\d,]+/[\d,]+ done · .*\n", re.MULTILINE)
"""A terminal shows one line of progress, and takes it away; elsewhere it is a line now and then."""
_STATUS = "echo $?"
_LIMIT_S = 200


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, the words behind it, and its text."""

    language: str
    info: str
    text: str

    @property
    def runs(self) -> bool:
        """Whether its commands are to be run."""
        return self.language == "console" and NOT_RUN not in self.info.split()


@dataclass(frozen=True, slots=True)
class Command:
    """A line after `$ `, with those it goes on in, and what is shown below it."""

    line: str
    shown: str


def blocks(page: Path) -> Iterator[Block]:
    """Read a page's fenced blocks."""
    for language, info, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        yield Block(language, info, text)


def commands(block: Block) -> list[Command]:
    """Read a console block; raises `ValueError` where it begins with something else than a command."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(([line.removeprefix("$ ")], []))
        elif not found:
            raise ValueError(f"no command before {line!r}")
        elif found[-1][0][-1].endswith("\\") and not found[-1][1]:
            found[-1][0].append(line)
        else:
            found[-1][1].append(line)
    return [Command("\n".join(line), "\n".join(shown)) for line, shown in found]


def agree(shown: str, printed: str) -> bool:
    """Say whether what a page shows is what was printed; `…` is any text, and alone on its line any lines."""
    return _agree(_trimmed(shown), _trimmed(printed))


def _agree(shown: list[str], printed: list[str]) -> bool:
    if not shown:
        return not printed
    if shown[0] == "…":
        return any(_agree(shown[1:], printed[skipped:]) for skipped in range(len(printed) + 1))
    pattern = ".*".join(map(re.escape, shown[0].split("…")))
    return bool(printed) and bool(re.fullmatch(pattern, printed[0])) and _agree(shown[1:], printed[1:])


def _trimmed(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]


@dataclass(frozen=True, slots=True)
class Player:
    """Someone who follows a page to the letter, in a folder and an environment of their own."""

    folder: Path
    environment: Mapping[str, str]
    told: Callable[[str], str] = str
    """Turns what a page says into what is there: the address of a video, the id of a task."""
    shown: Callable[[str], str] = str
    """And back."""

    def play(self, page: Path) -> list[str]:
        """Write the page's files and run its commands; gives what was not as the page has it."""
        found: list[str] = []
        code = 0
        for block in blocks(page):
            if block.runs:
                shown_here = commands(block)
                silent = not any(
                    command.shown for command in shown_here
                )  # commands alone, without their output
                for command in shown_here:
                    if code and command.line != _STATUS:
                        found.append(f"ended in {code}, and the page does not say so")
                    code, printed = self._run(command.line, code)
                    if not silent and not agree(command.shown, printed):
                        found.append(f"$ {command.line}\nshown:\n{command.shown}\nprinted:\n{printed}")
            elif block.info and block.language != "console":
                (self.folder / block.info).write_text(self.told(block.text), encoding="utf-8")
        return [*found, f"ended in {code}, and the page does not say so"] if code else found

    def _run(self, line: str, last_code: int) -> tuple[int, str]:
        """Run a line, `$?` being the code of the one before; gives its own code and what it printed."""
        ran = subprocess.run(
            ["bash", "-c", f"(exit {last_code})\n{self.told(line)}"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        return ran.returncode, self.shown(_PROGRESS.sub("", ran.stdout))
