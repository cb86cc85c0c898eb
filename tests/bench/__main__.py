"""`python -m tests.bench [ONLY=M4,M5] [--json FILE]`: every measure as one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tests.bench import (
    emulation,
    estimates,
    ledgers,
    limits,
    manifests,
    promises,
    resuming,
    waiting,
)
from tests.bench.figures import Figure, as_json, as_table
from tests.bench.machine import prefect_server
from tests.bench.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Group = Callable[[Setting, Path, dict[str, str]], Iterator[Figure]]

_GROUPS: tuple[tuple[str, Group], ...] = (
    ("M1 M2 M3 M10", promises.measure),
    ("M4 M5 M7", waiting.measure),
    ("M6", limits.measure),
    ("M8 M9", manifests.measure),
    ("M11", resuming.measure),
    ("M12", ledgers.measure),
    ("M13", emulation.measure),
    ("M14", estimates.measure),
)
_NO_PREFECT = {"M8 M9", "M12", "M13"}


def main() -> None:
    """Measure what is asked for, and show it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", default="", metavar="M4,M5", help="measures; a group is run as a whole")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    asked = parser.parse_args()
    wanted = set(filter(None, asked.only.replace(" ", "").upper().split(",")))
    setting, err = Setting.from_environment(), Console(stderr=True)
    groups = [(names, group) for names, group in _GROUPS if not wanted or wanted & set(names.split())]
    if not groups:
        parser.error(f"--only {asked.only}: give some of {', '.join(names for names, _ in _GROUPS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end with us
    began = time.monotonic()
    figures = [one for one in _figures(groups, setting, err) if not wanted or one.measure in wanted]
    told = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "setting": asdict(setting),
        "took_s": round(time.monotonic() - began),
    }
    out = Console(width=None if Console().is_terminal else 140)
    out.print(as_table(sorted(figures, key=lambda one: int(one.measure[1:]))))
    out.print(f"\n{told['machine']}; {told['setting']}; took {told['took_s']} s", highlight=False)
    if asked.json:
        asked.json.write_text(
            json.dumps(told | {"figures": as_json(figures)}, indent=2) + "\n", encoding="utf-8"
        )


def _figures(groups: list[tuple[str, Group]], setting: Setting, err: Console) -> Iterator[Figure]:
    alone = [pair for pair in groups if pair[0] in _NO_PREFECT]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        yield from _measured(alone, setting, folder, {}, err)
        if len(alone) < len(groups):
            with prefect_server(folder) as prefect:
                yield from _measured(
                    [pair for pair in groups if pair not in alone], setting, folder, prefect, err
                )


def _measured(
    groups: list[tuple[str, Group]], setting: Setting, folder: Path, prefect: dict[str, str], err: Console
) -> Iterator[Figure]:
    for names, group in groups:
        began = time.monotonic()
        home = folder / names.replace(" ", "-")
        home.mkdir()
        yield from group(setting, home, prefect)
        err.print(f"{names}: {time.monotonic() - began:.0f} s", highlight=False)


if __name__ == "__main__":
    main()
