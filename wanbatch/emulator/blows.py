"""What each kind of fault does: to a call's reply, or to a task's fate."""

import json
from typing import Final

from starlette.responses import Response

from wanbatch.emulator.catalogue import CATALOGUE, Failure, Refusal, refusal
from wanbatch.emulator.faults import Fault
from wanbatch.emulator.replies import error_reply, json_reply
from wanbatch.emulator.spoil import Drop, Hang, Html, cut, garbled
from wanbatch.emulator.state import Fate, Status

_FOR_EVER: Final = 3600.0
_THROTTLES: Final = {
    "throttle-rate": "Throttling.RateQuota",
    "throttle-concurrency": "Throttling",
    "throttle-burst": "Throttling.BurstRate",
}


def instead(fault: Fault, request_id: str) -> Response:
    """Give the reply to a call that has no effect."""
    headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
    match fault.kind:
        case "drop-before-accept":
            return Drop()
        case "hang-before-accept":
            return Hang(fault.seconds or _FOR_EVER)
        case "gateway-html":
            return Html(fault.status or 502, headers)
        case "5xx":
            reason = Refusal(fault.status or 500, *_reason(fault, "InternalError"))
        case "refuse":
            code, message = _reason(fault, "Arrearage")
            reason = Refusal(fault.status or CATALOGUE.get(code, (400, ""))[0], code, message)
        case _:
            reason = refusal(_THROTTLES[fault.kind], fault.message)
    return error_reply(reason, request_id, headers)


def afterwards(fault: Fault, reply: Response, request_id: str) -> Response:
    """Give what the client sees of a call that took effect."""
    match fault.kind:
        case "accept-then-drop":
            return Drop()
        case "accept-then-drop-headers":
            return Drop(reply)
        case "accept-then-hang":
            return Hang(fault.seconds or _FOR_EVER)
        case "accept-then-5xx":
            return error_reply(Refusal(fault.status or 500, *_reason(fault, "InternalError")), request_id)
        case "accept-then-5xx-html":
            return Html(fault.status or 502)
        case "cut-body":
            return cut(reply)
        case "garbled-body":
            return garbled(reply)
        case _:
            return _without_task_id(reply)


def fate(fault: Fault | None, *, sr_as_string: bool) -> Fate:
    """Give the fate of a task that a rule struck (or none did)."""
    match fault.kind if fault else None:
        case "fail":
            assert fault is not None
            return Fate(failure=Failure(*_reason(fault, "InternalError.Algo")), sr_as_string=sr_as_string)
        case "fail-without-code":
            return Fate(failure=Failure(None, None))
        case "running-for-ever":
            return Fate(stuck=Status.RUNNING)
        case "pending-for-ever":
            return Fate(stuck=Status.PENDING)
        case "unknown-early":
            assert fault is not None
            return Fate(life_ms=round((fault.seconds or 0) * 1000), sr_as_string=sr_as_string)
        case kind:
            return Fate(sr_as_string=sr_as_string or kind == "sr-as-string")


def _reason(fault: Fault, usual: str) -> tuple[str, str]:
    code = fault.code or usual
    return code, fault.message or CATALOGUE.get(code, (0, code))[1]


def _without_task_id(reply: Response) -> Response:
    body = json.loads(bytes(reply.body))
    body.get("output", {}).pop("task_id", None)
    return json_reply(body)
