"""M14: what `plan` says an edit of real clips costs, against what the emulator then bills. It renders them."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.account import Served, served
from tests.bench.figures import Figure
from tests.bench.machine import run
from tests.bench.ours import Ours
from wanbatch.samples import make_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.setting import Setting

_CLIPS = ("street", "dancer", "ball", "product")
_SIZES = ("720P", "1080P")
_CUT_S = 2
_SPEED = 60


def measure(setting: Setting, folder: Path, prefect: dict[str, str]) -> Iterator[Figure]:
    """Plan with and without a look at the clips, run, and read the bill."""
    make_samples(folder / "clips")
    with served(seed=setting.seed, speed=_SPEED, render=True, media=str(folder / "clips")) as account:
        manifest = _write(folder / "m.csv", account)
        looked, unlooked = (_planned(account, manifest, probe=probe) for probe in ("probe", ""))
        Ours(account, folder, prefect).run(probe=True)
        billed, edits = account.billed(), len(account.bill())
    note = f"{edits} edits of {len(_CLIPS)} clips, rendered"
    yield Figure(
        measure="M14",
        what="expected cost off the bill",
        unit="%",
        ours=_error(looked["expected"], billed),
        goal=1,
        peers={"a guess of 6 s each": _error(unlooked["expected"], billed)},
        note=note,
    )
    yield Figure(
        measure="M14",
        what="bill beyond the worst case",
        unit="USD",
        ours=max(billed - Decimal(looked["worst"]), Decimal(0)),
        goal=0,
        note=f"billed {billed:f}, expected {looked['expected']}, worst {looked['worst']}",
    )


def _write(path: Path, account: Served) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "video", "prompt", "resolution", "duration"])
        for clip, size in product(_CLIPS, _SIZES):
            cut = _CUT_S if (clip, size) == ("ball", "720P") else 0
            rows.writerow([f"{clip}-{size}", f"{account.origin}/media/{clip}.mp4", "sepia", size, cut])
    return path


def _planned(account: Served, manifest: Path, *, probe: str) -> dict[str, str]:
    told: dict[str, str] = run("estimates", str(manifest), probe, environment=account.environment).told
    return told


def _error(expected: str, billed: Decimal) -> Decimal:
    return (100 * abs(Decimal(expected) - billed) / billed).quantize(Decimal("0.01"))


def _main(manifest: str, probe: str) -> None:
    from wanbatch.options import RunOptions  # noqa: PLC0415 - only the planning process plans
    from wanbatch.planning import make_plan  # noqa: PLC0415

    ledger = str(Path(manifest).parent / "ledger")
    options = RunOptions(manifest=manifest, service="emulator", ledger=ledger, probe=bool(probe))
    sums = asyncio.run(make_plan(options)).new
    print(json.dumps({"expected": f"{sums.expected:f}", "worst": f"{sums.worst:f}"}))  # noqa: T201 - the result


if __name__ == "__main__":
    _main(*sys.argv[1:])
