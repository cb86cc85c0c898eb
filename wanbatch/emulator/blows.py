"""What each kind of fault does: to a call's reply, or to a task's fate."""

import json
from collections.abc import Callable, Mapping
from typing import Final

from starlette.responses import Response

from wanbatch.emulator.catalogue import CATALOGUE, Failure, Refusal
from wanbatch.emulator.faults import Fault
from wanbatch.emulator.replies import json_reply
from wanbatch.emulator.spoil import Drop, Hang, Html, cut, garbled
from wanbatch.emulator.task import Fate, Status

_FOR_EVER_S: Final = 3600.0
_REFUSALS: Final[Mapping[str, str]] = {
    "5xx": "InternalError",
    "accept-then-5xx": "InternalError",
    "refuse": "Arrearage",
    "throttle-rate": "Throttling.RateQuota",
    "throttle-concurrency": "Throttling",
    "throttle-burst": "Throttling.BurstRate",
}
"""The code each refusing kind shows unless its rule names another."""

Refuse = Callable[[Refusal, Mapping[str, str]], Response]
"""Words a refusal, with extra headers, in the manner of the host that was called."""


def instead(fault: Fault, refuse: Refuse) -> Response:
    """Give the reply to a call that has no effect."""
    headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
    match fault.kind:
        case "drop-before-accept":
            return Drop()
        case "hang-before-accept":
            return Hang(fault.seconds or _FOR_EVER_S)
        case "gateway-html":
            return Html(fault.status or 502, headers)
        case _:
            return refuse(_refusal(fault), headers)


def afterwards(fault: Fault, reply: Response, refuse: Refuse) -> Response:
    """Give what the client sees of a call that took effect."""
    return _AFTERWARDS[fault.kind](fault, reply, refuse)


_AFTERWARDS: Final[Mapping[str, Callable[[Fault, Response, Refuse], Response]]] = {
    "accept-then-drop": lambda _, __, ___: Drop(),
    "accept-then-drop-headers": lambda _, reply, __: Drop(reply),
    "accept-then-hang": lambda fault, _, __: Hang(fault.seconds or _FOR_EVER_S),
    "accept-then-5xx": lambda fault, _, refuse: refuse(_refusal(fault), {}),
    "accept-then-5xx-html": lambda fault, _, __: Html(fault.status or 502),
    "cut-body": lambda _, reply, __: cut(reply),
    "garbled-body": lambda _, reply, __: garbled(reply),
    "no-task-id": lambda _, reply, __: _without_task_id(reply),
}


def fate(fault: Fault | None, *, sr_as_string: bool) -> Fate:
    """Give the fate of a task that a rule struck, or none did."""
    match fault:
        case None:
            return Fate(sr_as_string=sr_as_string)
        case Fault(kind="fail"):
            return Fate(failure=Failure(*_reason(fault, "InternalError.Algo")))
        case Fault(kind="unknown-early"):
            return Fate(life_ms=round((fault.seconds or 0) * 1000), sr_as_string=sr_as_string)
        case Fault(kind=kind):
            return _FATES[kind]


_FATES: Final[Mapping[str, Fate]] = {
    "fail-without-code": Fate(failure=Failure(None, None)),
    "running-for-ever": Fate(stuck=Status.RUNNING),
    "pending-for-ever": Fate(stuck=Status.PENDING),
    "sr-as-string": Fate(sr_as_string=True),
}


def _refusal(fault: Fault) -> Refusal:
    code, message = _reason(fault, _REFUSALS[fault.kind])
    return Refusal(fault.status or CATALOGUE.get(code, (400, ""))[0], code, message)


def _reason(fault: Fault, usual: str) -> tuple[str, str]:
    code = fault.code or usual
    return code, fault.message or CATALOGUE.get(code, (0, code))[1]


def _without_task_id(reply: Response) -> Response:
    body = json.loads(bytes(reply.body))
    body.get("output", {}).pop("task_id", None)
    return json_reply(body)
