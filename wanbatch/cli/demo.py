"""`wanbatch demo`: the main job on the embedded emulator."""

from __future__ import annotations

import os
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

from wanbatch.cli import display
from wanbatch.cli.run import run_quietly
from wanbatch.errors import ExitCode, UsageError
from wanbatch.settings import ADDRESS_VARIABLE, KEY_VARIABLE

_MARK = ".wanbatch-demo"
_KEY = "sk-emulator"


def run_demo(folder: Path, *, speed: float) -> ExitCode:
    """Make the clips, start the emulator, run the flow against it, and show what came out."""
    from wanbatch.emulator.config import EmulatorConfig
    from wanbatch.emulator.server import in_thread
    from wanbatch.options import RunOptions
    from wanbatch.samples import make_samples

    _clear(folder)
    display.err.print("making the sample clips")
    make_samples(folder / "clips")
    manifest = folder / "demo.csv"
    manifest.write_bytes(files("manifests").joinpath("demo.csv").read_bytes())
    with in_thread(EmulatorConfig(key=_KEY, speed=speed, media=folder / "clips")) as emulator:
        display.err.print(f"the emulator stands in for the service, {speed:g} times as fast: {emulator.url}")
        os.environ[ADDRESS_VARIABLE] = emulator.url
        os.environ[KEY_VARIABLE] = _KEY
        ran = run_quietly(
            RunOptions(
                manifest=str(manifest),
                service="emulator",
                ledger=str(folder / "ledger"),
                videos=str(folder / "videos"),
                poll_interval=0.5,
            )
        )
    display.print_rows(_rows(folder / "ledger"))
    display.out.print()
    display.print_summary(ran.summary)
    if ran.exit_code() is not ExitCode.SOME_FAILED:
        return ran.exit_code()
    display.out.print("two rows fail on purpose; `wanbatch run` ends with exit code 3 then")
    return ExitCode.OK


def _clear(folder: Path) -> None:
    """Start from nothing, but only in a folder that a demo made."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).exists():
            raise UsageError(f"{folder} is not empty and not an earlier demo; name another with --folder")
        for name in ("ledger", "videos"):
            shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()


def _rows(ledger: Path) -> list[dict[str, Any]]:
    from wanbatch.ledger import Ledger

    rows: list[dict[str, Any]] = Ledger(ledger).read_attempts().to_pylist()
    return sorted(rows, key=lambda row: (row["row"], row["attempt"]))
