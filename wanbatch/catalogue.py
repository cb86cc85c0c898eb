"""What the service's error codes mean: HTTP status, code and message to one ruling.

The code alone does not decide. `InvalidParameter` is a hopeless row or an input that could not be fetched this
time, 429 is a request rate or an unpaid bill, and overdue payment comes as a 400. The table is
`catalogue.toml`; the texts are those of https://www.alibabacloud.com/help/en/model-studio/error-code
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import translate
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class Verdict(StrEnum):
    """What may be done about an error."""

    FIX_INPUT = "fix the input"
    TRANSIENT = "transient"
    """Asking the same again may help. A submit is not resent for that: it may have been created, and paid."""
    THROTTLED = "throttled"
    MODERATION = "moderation"
    NEW_ATTEMPT = "new attempt allowed"
    """This attempt is over and unbilled; another may succeed."""
    STOP_RUN = "stop the whole run"
    UNKNOWN = "unknown"
    """Reported, not retried."""


class Throttle(StrEnum):
    """Which limit was met; each asks for another kind of patience."""

    RATE = "rate"
    BURST = "burst"
    CONCURRENCY = "concurrency"
    CAPACITY = "capacity"
    QUOTA = "quota"

    @property
    def slower(self) -> float:
        """How many times as slowly to send after it; the rate has nothing to do with the other limits."""
        return {Throttle.RATE: 2.0, Throttle.BURST: 4.0}.get(self, 1.0)


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict, what a person can do about it, and, when throttled, by which limit."""

    verdict: Verdict
    mend: str
    throttle: Throttle | None = None


@dataclass(frozen=True, slots=True)
class _Rule:
    patterns: tuple[re.Pattern[str], ...]
    """For where, code and message."""
    ruling: Ruling


_COLUMNS = ("where", "code", "message")
_ECHO = re.compile(r"""[a-z][a-z0-9+.-]{0,15}://\S*|"[^"]*"|(?<!\w)'[^']*'|`[^`]*`|“[^”]*”""")
"""What may be the user's own words: a URL, or anything in quotes (the apostrophe of "don't" opens none)."""
_WRAPPING = re.compile(r"\A<\d{3}>\s*[\w.]+:\s*|[.\s]+for (?:more )?(?:details|information)\b.*")
"""Before the text, status and code again ("<400> InternalError.Algo.InvalidParameter: …"); after it, a link."""
_READ = 1_000
"""Characters of a message that are looked at; the known texts are far shorter."""


def rule(http_status: int | None, code: str, message: str) -> Ruling:
    """Say what an error means; `http_status` is None for the code inside a task (HTTP 200, `output.code`)."""
    where = "task" if http_status is None else str(http_status)
    facts = (where, code.strip().lower(), _plain(message))
    return next(
        rule.ruling
        for rule in _RULES
        if all(pattern.match(fact) for pattern, fact in zip(rule.patterns, facts, strict=True))
    )


def _plain(message: str) -> str:
    """Reduce a message to the service's own words: lower case, no echoed input, no closing punctuation."""
    words = " ".join(message[:_READ].lower().replace("’", "'").split())  # noqa: RUF001 - they write both
    return _WRAPPING.sub("", _ECHO.sub("…", words)).strip(" .!…")


def as_markdown() -> str:
    """Write the table as it is read, for docs/errors.md."""
    rows = [
        " | ".join((*(_cell(entry.get(column)) for column in _COLUMNS), _meaning(entry), entry["mend"]))
        for entry in _TABLE
    ]
    return "\n".join(
        [
            "# Error codes",
            "",
            "What an error of the service means to a run. The first row that matches decides; an empty cell",
            'matches anything, `*` any text, `?` one character, `""` a missing code. `task` is the code inside a',
            "task that FAILED, which is never billed; numbers are HTTP statuses. A submit that got a 5xx is in",
            "doubt whatever its code says, and is not sent again before it is proved that nothing was created.",
            "",
            "| where | code | message | verdict | what to do |",
            "| --- | --- | --- | --- | --- |",
            *(f"| {row} |" for row in rows),
            "",
        ]
    )


def _cell(globs: Sequence[str] | None) -> str:
    return ", ".join(f"`{glob}`" if glob else '`""`' for glob in globs or ())


def _meaning(entry: dict[str, Any]) -> str:
    return f"{entry['verdict']} ({entry['throttle']})" if "throttle" in entry else str(entry["verdict"])


def _any_of(globs: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(translate(glob.lower()) for glob in globs))


def _compiled(entry: dict[str, Any]) -> _Rule:
    throttle = entry.get("throttle")
    ruling = Ruling(Verdict(entry["verdict"]), entry["mend"], Throttle(throttle) if throttle else None)
    return _Rule(tuple(_any_of(entry.get(column, ["*"])) for column in _COLUMNS), ruling)


_TABLE: list[dict[str, Any]] = tomllib.loads(
    files("wanbatch").joinpath("catalogue.toml").read_text(encoding="utf-8")
)["rule"]
_RULES = tuple(_compiled(entry) for entry in _TABLE)
