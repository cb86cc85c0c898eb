"""What every test may use: an emulator on a real port, a run against it, and a quiet Prefect."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from wanbatch.emulator.config import EmulatorConfig
from wanbatch.emulator.server import in_thread
from wanbatch.options import RunOptions
from wanbatch.settings import ADDRESS_VARIABLE, KEY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-emulator"
WANBATCH = Path(sys.executable).with_name("wanbatch")
RUN = (str(WANBATCH), "run", "m.csv", "--service", "emulator", "--no-probe", "--poll-interval", "0.2")
"""The command, in a folder with an `m.csv`."""


@dataclass(frozen=True)
class Account:
    """The emulated account as a test sees it: from outside, over HTTP."""

    url: str
    origin: str

    def get(self, path: str) -> Any:
        """Read one of the emulator's own pages, with exact decimals."""
        answer = httpx.get(f"{self.origin}/_emulator/{path}", timeout=30)
        return json.loads(answer.raise_for_status().content, parse_float=Decimal)

    def faults(self, *rules: dict[str, Any]) -> None:
        """Switch faults on, in place of those before."""
        httpx.put(f"{self.origin}/_emulator/faults", json=list(rules), timeout=30).raise_for_status()

    def post(self, path: str, body: dict[str, Any]) -> None:
        """Tell the emulator something."""
        httpx.post(f"{self.origin}/_emulator/{path}", json=body, timeout=30).raise_for_status()

    def bill(self) -> list[dict[str, Any]]:
        """Give what the account was billed, a row a task."""
        rows: list[dict[str, Any]] = self.get("bill")["rows"]
        return rows

    def billed(self) -> Decimal:
        """Give what the account was billed in all."""
        return sum((Decimal(row["cost"]) for row in self.bill()), Decimal(0))


@contextmanager
def emulated(**settings: Any) -> Iterator[Account]:
    """Serve the emulator for a while; fast and without rendering unless told otherwise."""
    usual = {"key": KEY, "speed": 600.0, "render": False, "submit_rate": 0, "query_rate": 0}
    with in_thread(EmulatorConfig(**{**usual, **settings})) as emulator:
        yield Account(emulator.url, emulator.origin)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """Give a fast emulated account that the environment points to."""
    with emulated() as served:
        point_to(served, monkeypatch)
        yield served


def point_to(served: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment name an emulated account."""
    monkeypatch.setenv(ADDRESS_VARIABLE, served.url)
    monkeypatch.setenv(KEY_VARIABLE, KEY)


def environment(served: Account, home: Path) -> dict[str, str]:
    """Give the environment of a child process that is to use an emulated account."""
    return os.environ | {ADDRESS_VARIABLE: served.url, KEY_VARIABLE: KEY, "PREFECT_HOME": str(home)}


def write_manifest(path: Path, rows: int, **columns: str) -> Path:
    """Write a manifest of so many small edits, each of a video of its own length."""
    extra = "".join(f",{name}" for name in columns)
    values = "".join(f",{value}" for value in columns.values())
    lines = [f"id,video,prompt,resolution{extra}"]
    for number in range(1, rows + 1):
        length = f"{2 + (number * 37 % 800) / 100:.2f}"
        resolution = "720P" if number % 3 else "1080P"
        url = f"https://media.example.com/{number}.mp4?seconds={length}"
        lines.append(f"clip-{number:04},{url},make it look like clay {number},{resolution}{values}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def options(folder: Path, manifest: Path, **more: Any) -> RunOptions:
    """Give the options of a run in a folder of its own."""
    usual: dict[str, Any] = {
        "manifest": str(manifest),
        "service": "emulator",
        "ledger": str(folder / "ledger"),
        "videos": str(folder / "videos"),
        "poll_interval": 0.1,
        "probe": False,
        "submit_rate": 200.0,
        "query_rate": 200.0,
    }
    return RunOptions(**{**usual, **more})
