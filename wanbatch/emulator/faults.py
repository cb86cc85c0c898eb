"""Fault rules: which call goes wrong, and how. Pure: no HTTP, no clock, no shared random state."""

import json
import random
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal

Phase = Literal["before", "after", "task", "result", "list"]

KINDS: Final[dict[str, Phase]] = {
    "drop-before-accept": "before",
    "hang-before-accept": "before",
    "5xx": "before",
    "gateway-html": "before",
    "refuse": "before",
    "throttle-rate": "before",
    "throttle-concurrency": "before",
    "throttle-burst": "before",
    "accept-then-drop": "after",
    "accept-then-drop-headers": "after",
    "accept-then-hang": "after",
    "accept-then-5xx": "after",
    "accept-then-5xx-html": "after",
    "cut-body": "after",
    "garbled-body": "after",
    "no-task-id": "after",
    "fail": "task",
    "fail-without-code": "task",
    "running-for-ever": "task",
    "pending-for-ever": "task",
    "unknown-early": "task",
    "sr-as-string": "task",
    "result-break": "result",
    "result-corrupt": "result",
    "result-slow": "result",
    "result-ignore-range": "result",
    "result-expired": "result",
    "list-absent": "list",
    "list-incomplete": "list",
    "list-delay": "list",
}
"""Kind to when it strikes: before or after a call took effect, in a task's fate, a download, a list."""

_HOME: Final[dict[Phase, str]] = {
    "before": "submit",
    "after": "submit",
    "task": "submit",
    "result": "result",
    "list": "list",
}
OPERATIONS: Final = ("submit", "query", "list", "cancel", "policy", "upload", "result")


class FaultError(ValueError):
    """A fault rule that cannot be understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule: a kind, when it strikes, and the details of the blow.

    Without `p`, `nth` or `every` it strikes every call that matches; `count` bounds how often.
    """

    kind: str
    on: str = ""
    """The operation struck; by default the one the kind is meant for."""
    p: float | None = None
    """Chance per matching call."""
    nth: int | None = None
    """Only the nth matching call, counted from 1."""
    every: int | None = None
    """Every nth matching call."""
    count: int | None = None
    """At most so many strikes."""
    prompt: str | None = None
    """Only where the prompt holds this text."""
    url: str | None = None
    """Only where an input URL holds this text."""
    code: str | None = None
    message: str | None = None
    status: int | None = None
    retry_after: str | None = None
    """Sent as `Retry-After`, verbatim."""
    seconds: float | None = None
    """A length in time: of a hang (real), of a list's delay or a task's life (emulated)."""
    rate: float | None = None
    """Bytes per real second of a slow download."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FaultError(f"unknown fault kind {self.kind!r}; there are: {', '.join(KINDS)}")
        if not self.on:
            object.__setattr__(self, "on", _HOME[self.phase])
        if self.on not in OPERATIONS:
            raise FaultError(f"unknown operation {self.on!r}; there are: {', '.join(OPERATIONS)}")
        if self.p is not None and not 0 <= self.p <= 1:
            raise FaultError(f"p must lie between 0 and 1, not {self.p}")
        for name in ("nth", "every", "count"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise FaultError(f"{name} must be at least 1, not {value}")
        if self.status is not None and not 200 <= self.status <= 599:  # noqa: PLR2004  HTTP's own range
            raise FaultError(f"status must be an HTTP status, not {self.status}")

    @property
    def phase(self) -> Phase:
        """When it strikes."""
        return KINDS[self.kind]


_CASTS: Final[Mapping[str, type]] = {
    "p": float,
    "nth": int,
    "every": int,
    "count": int,
    "status": int,
    "seconds": float,
    "rate": float,
}


def parse_fault(text: str) -> Fault:
    """Read `kind:name=value,name=value`, as in `accept-then-drop:p=0.1,count=3`. Raises FaultError."""
    kind, _, rest = text.partition(":")
    settings = {}
    for part in filter(None, rest.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise FaultError(f"{text!r}: {part!r} is not name=value")
        settings[name.strip()] = value.strip()
    return fault_of({"kind": kind.strip(), **settings})


def fault_of(settings: Any) -> Fault:
    """Read one rule from a mapping of settings, as JSON gives it. Raises FaultError."""
    if not isinstance(settings, Mapping) or "kind" not in settings:
        raise FaultError("a fault rule is an object with at least a kind")
    known = {entry.name for entry in fields(Fault)}
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in known:
            raise FaultError(f"unknown setting {name!r}; there are: {', '.join(sorted(known))}")
        try:
            values[name] = value if value is None else _CASTS.get(name, str)(value)
        except (TypeError, ValueError) as error:
            raise FaultError(f"{name} cannot be {value!r}") from error
    return Fault(**values)


def read_faults(text: str | bytes) -> tuple[Fault, ...]:
    """Read a JSON list of rules (each an object, or a string as on the command line). Raises FaultError."""
    try:
        rules = json.loads(text)
    except ValueError as error:
        raise FaultError(f"the fault rules are not JSON: {error}") from error
    if not isinstance(rules, list):
        raise FaultError("the fault rules are a JSON list")
    return tuple(parse_fault(rule) if isinstance(rule, str) else fault_of(rule) for rule in rules)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a rule may look at: the prompt and input URLs of the edit concerned."""

    prompt: str = ""
    urls: tuple[str, ...] = ()


@dataclass(slots=True)
class _Rule:
    fault: Fault
    calls: int = 0
    strikes: int = 0

    def matches(self, phase: Phase, operation: str, subject: Subject) -> bool:
        fault = self.fault
        return (
            fault.phase == phase
            and fault.on == operation
            and (fault.prompt is None or fault.prompt in subject.prompt)
            and (fault.url is None or any(fault.url in url for url in subject.urls))
        )

    def strikes_now(self, seed: str) -> bool:
        """Count one matching call and decide; the draw depends on nothing but the rule and its own count."""
        fault = self.fault
        self.calls += 1
        if fault.count is not None and self.strikes >= fault.count:
            return False
        if fault.nth is not None:
            hit = self.calls == fault.nth
        elif fault.every is not None:
            hit = self.calls % fault.every == 0
        elif fault.p is not None:
            # Reproducible draws are the point; nothing here is a secret.
            hit = random.Random(f"{seed}:{self.calls}").random() < fault.p  # noqa: S311
        else:
            hit = True
        self.strikes += hit
        return hit


@dataclass(slots=True)
class Faults:
    """The rules in force, each with its own count. Safe to share between threads."""

    seed: int
    _rules: list[_Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def replace(self, faults: Iterable[Fault]) -> None:
        """Put other rules in force; their counts start at zero."""
        with self._lock:
            self._rules = [_Rule(fault) for fault in faults]

    @property
    def active(self) -> bool:
        """Whether any rule is in force."""
        return bool(self._rules)

    def strike(self, phase: Phase, operation: str, subject: Subject) -> Fault | None:
        """Show a call to every rule that matches it; the first that strikes wins."""
        if not self._rules:
            return None
        with self._lock:
            struck = [
                rule.fault
                for index, rule in enumerate(self._rules)
                if rule.matches(phase, operation, subject)
                and rule.strikes_now(f"{self.seed}:{index}:{rule.fault.kind}")
            ]
        return struck[0] if struck else None

    def describe(self) -> list[dict[str, Any]]:
        """Give each rule's settings with the calls it saw and the strikes it made."""
        with self._lock:
            return [
                {name: value for name, value in asdict(rule.fault).items() if value is not None}
                | {"calls": rule.calls, "strikes": rule.strikes}
                for rule in self._rules
            ]
