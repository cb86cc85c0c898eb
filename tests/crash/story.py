"""What happens to one seed: a manifest, the service's faults, strangers on the account, and when the worker dies."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

Rule = dict[str, Any]

_FAULTS: tuple[Rule, ...] = (
    {"kind": "accept-then-drop", "p": 0.08},
    {"kind": "accept-then-drop-headers", "p": 0.06},
    {"kind": "accept-then-hang", "p": 0.04, "seconds": 2.0},
    {"kind": "accept-then-5xx", "p": 0.05},
    {"kind": "accept-then-5xx-html", "p": 0.04},
    {"kind": "cut-body", "p": 0.05},
    {"kind": "garbled-body", "p": 0.04},
    {"kind": "no-task-id", "p": 0.04},
    {"kind": "drop-before-accept", "p": 0.06},
    {"kind": "5xx", "p": 0.06, "status": 503},
    {"kind": "gateway-html", "p": 0.04},
    {"kind": "throttle-rate", "p": 0.06},
    {"kind": "throttle-burst", "p": 0.04, "retry_after": "2"},
    {"kind": "throttle-concurrency", "p": 0.04},
    {"kind": "fail", "p": 0.08, "code": "InternalError"},
    {"kind": "fail", "p": 0.05, "code": "DataInspectionFailed"},
    {"kind": "fail-without-code", "p": 0.03},
    {"kind": "sr-as-string", "p": 0.3},
    {"kind": "throttle-rate", "p": 0.05, "on": "query"},
    {"kind": "5xx", "p": 0.05, "on": "query"},
    {"kind": "drop-before-accept", "p": 0.05, "on": "query"},
    {"kind": "cut-body", "p": 0.03, "on": "query"},
    {"kind": "gateway-html", "p": 0.03, "on": "query"},
    {"kind": "5xx", "p": 0.05, "on": "list"},
    {"kind": "throttle-rate", "p": 0.03, "on": "list"},
    {"kind": "drop-before-accept", "p": 0.05, "on": "list"},
    {"kind": "garbled-body", "p": 0.03, "on": "list"},
    {"kind": "list-incomplete", "p": 0.05},
    {"kind": "list-delay", "p": 0.2, "seconds": 45.0},
    {"kind": "result-break", "p": 0.1},
    {"kind": "result-corrupt", "p": 0.05},
    {"kind": "result-slow", "p": 0.05, "rate": 20_000.0},
    {"kind": "result-expired", "p": 0.05},
)
_LIST_REFUSED: Rule = {"kind": "list-absent", "p": 0.03}


@dataclass(frozen=True)
class Story:
    """Everything that is drawn from a seed."""

    seed: int
    faults: tuple[Rule, ...]
    kills: tuple[float, ...]
    """How long each start lives, in real seconds; the next one may live."""
    gently: tuple[bool, ...]
    """Whether that end is a SIGTERM instead of a SIGKILL."""
    strangers: tuple[Rule, ...]
    """What somebody else makes on the account, one lot a start."""
    budget: str | None
    skew_s: float
    """How far this machine's clock is from the service's."""


def draw(seed: int) -> Story:
    """Draw a story; every fourth seed has a budget, every third a wrong clock, every sixth a list that may refuse."""
    dice = random.Random(seed)  # noqa: S311 - a story that can be told again, no secret
    faults = [rule for rule in _FAULTS if dice.random() < 0.6]
    if seed % 6 == 5:
        faults.append(_LIST_REFUSED)
    starts = dice.randint(2, 5)
    return Story(
        seed=seed,
        faults=tuple(faults),
        kills=tuple(dice.uniform(0.15, 1.6) for _ in range(starts)),
        gently=tuple(dice.random() < 0.2 for _ in range(starts)),
        strangers=tuple(_stranger(dice) for _ in range(starts)),
        budget=f"{dice.randint(10, 28)}/month" if seed % 4 == 3 else None,
        skew_s=dice.uniform(-7200, 7200) if seed % 3 == 2 else 0.0,
    )


def _stranger(dice: random.Random) -> Rule:
    """Draw tasks of somebody else: their own prompt, or one of ours over a video of another length."""
    if dice.random() < 0.5:
        return {"count": dice.randint(1, 3), "seconds": 5}
    resolution = dice.choice(["720P", "1080P"])
    return {
        "count": dice.randint(1, 2),
        "prompt": "the same for many",
        "seconds": "9.70",
        "resolution": resolution,
    }


def write_rows(path: Path, seed: int, rows: int = 25) -> Path:
    """Write a manifest: most rows differ, some share a prompt, four are the same edit under other ids."""
    dice = random.Random(f"{seed}:rows")  # noqa: S311 - as above
    lines = ["id,video,prompt,resolution,duration"]
    for number in range(1, rows + 1):
        video, prompt = number, f"make it look like clay {number}"
        length = f"{dice.uniform(2.0, 9.3):.2f}"
        if number <= 7:
            prompt = "the same for many"
        elif number <= 9:
            video, prompt, length = 8, "twice the same", "4.00"
        elif number <= 11:
            video, prompt, length = 10, "the same for many", "6.00"
        resolution = "720P" if number <= 11 or dice.random() < 0.7 else "1080P"
        duration = dice.choice(["", "", "2"]) if number > 11 else ""
        url = f"https://media.example.com/{video}.mp4?seconds={length}"
        lines.append(f"clip-{number:02},{url},{prompt},{resolution},{duration}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
