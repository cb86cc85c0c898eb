"""M8, M9: a big manifest checked and planned, beside what merely reads it. Each reader in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.figures import Figure, middle
from tests.bench.machine import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.setting import Setting

_OURS = "ours"
_CHECK = "check"
_MB = 1_000_000


def measure(setting: Setting, folder: Path, _: dict[str, str]) -> Iterator[Figure]:
    """Write the manifest, and let everybody read it."""
    manifest = _write(folder / "m.csv", setting.rows)
    found = {
        name: [run("manifests", name, str(manifest)).told for _ in range(setting.runs)] for name in _READERS
    }
    medians = {name: middle(runs) for name, runs in found.items()}
    for measure_, what, ours, name, unit, goal in (
        ("M8", "peak memory above idle, check + plan", _OURS, "mb", "MB", 200),
        ("M9", "check + plan", _OURS, "speed", "rows/s", 200_000),
        ("M9", "check alone", _CHECK, "speed", "rows/s", None),
    ):
        yield Figure(
            measure=measure_,
            what=what,
            unit=unit,
            ours=medians[ours][name],
            goal=goal,
            at_least=measure_ == "M9",
            peers={peer: medians[peer][name] for peer in _READERS if peer not in {_OURS, _CHECK}},
            runs=[one[name] for one in found[ours]],
            note=f"{setting.rows:,} rows, which a plan checks while it reads them; the peers only read",
        )


def _write(path: Path, rows: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.write("id,video,prompt,resolution,duration,tag_campaign\n")
        for row in range(rows):
            file.write(
                f"clip-{row},https://media.example.com/{row % 97}/{row}.mp4,make it look like clay number {row},"
                f"{'720P' if row % 3 else '1080P'},{row % 9 + 2 if row % 4 == 0 else 0},campaign-{row % 40}\n"
            )
    return path


def _plan() -> Callable[[Path], int]:
    import asyncio  # noqa: PLC0415 - each reader imports its own, before the clock starts

    import pandas as pd  # noqa: F401, PLC0415 - pyarrow does when it makes its first array

    from wanbatch.options import RunOptions  # noqa: PLC0415
    from wanbatch.planning import make_plan  # noqa: PLC0415

    def read(path: Path) -> int:
        ledger = str(path.parent / "no-ledger")
        options = RunOptions(manifest=str(path), service="singapore", ledger=ledger, probe=False)
        return asyncio.run(make_plan(options)).new.edits

    return read


def _check() -> Callable[[Path], int]:
    import pandas as pd  # noqa: F401, PLC0415 - see `_plan`

    from wanbatch.manifest import check_manifest  # noqa: PLC0415

    return lambda path: check_manifest(path).rows


def _pandas_dicts() -> Callable[[Path], int]:
    import pandas as pd  # noqa: PLC0415

    return lambda path: len(pd.read_csv(path).to_dict("records"))


def _dict_reader() -> Callable[[Path], int]:
    import csv  # noqa: PLC0415

    def read(path: Path) -> int:
        with path.open(encoding="utf-8", newline="") as file:
            return len(list(csv.DictReader(file)))

    return read


def _arrow_stream() -> Callable[[Path], int]:
    from pyarrow import csv  # noqa: PLC0415

    def read(path: Path) -> int:
        with csv.open_csv(path) as batches:
            return sum(len(batch.to_pylist()) for batch in batches)

    return read


_READERS: dict[str, Callable[[], Callable[[Path], int]]] = {
    _OURS: _plan,
    _CHECK: _check,
    "pandas to dicts": _pandas_dicts,
    "csv.DictReader": _dict_reader,
    "pyarrow stream": _arrow_stream,
}


def _peak_bytes() -> int:
    """Read this process's peak; `getrusage` would give that of whoever started it when that was larger."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def _main(name: str, manifest: str) -> None:
    read = _READERS[name]()
    idle, began = _peak_bytes(), time.perf_counter()
    rows = read(Path(manifest))
    seconds = time.perf_counter() - began
    print(json.dumps({"mb": (_peak_bytes() - idle) / _MB, "speed": rows / seconds}))  # noqa: T201 - the result


if __name__ == "__main__":
    _main(*sys.argv[1:])
