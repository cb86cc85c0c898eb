"""The API's JSON: tasks, rows and errors as the published samples show them."""

import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from wanbatch.emulator.bill import Usage
from wanbatch.emulator.catalogue import Failure, Refusal
from wanbatch.emulator.clock import china_text
from wanbatch.emulator.task import Status, Task

_UNIQUE_KEY: Final = "apikey:v1:aigc:video-generation:video-synthesis:"


def json_reply(
    content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Give a reply in the one content type the vendor's SDK understands."""
    return Response(json.dumps(content), status, headers, media_type="application/json")


def error_reply(refused: Refusal, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """Give an error as the API words it: code and message at the top."""
    body = {"code": refused.code, "message": refused.message, "request_id": request_id}
    return json_reply(body, refused.status, headers)


def task_body(task: Task, video_url: str | None) -> dict[str, Any]:
    """Give `output` and, for a success, `usage` of a task that is there."""
    output: dict[str, Any] = {"task_id": task.task_id, "task_status": task.status.value}
    output["submit_time"] = china_text(task.submitted)
    if task.scheduled is not None:
        output["scheduled_time"] = china_text(task.scheduled)
    if task.ended is not None:
        output["end_time"] = china_text(task.ended)
    if task.status is Status.FAILED and isinstance(task.outcome, Failure):
        output |= _present(code=task.outcome.code, message=task.outcome.message)
    if task.status is not Status.SUCCEEDED or not isinstance(task.outcome, Usage):
        return {"output": output}
    output |= {"orig_prompt": task.edit.prompt, "video_url": video_url}
    return {"output": output, "usage": _usage(task, task.outcome)}


def unknown_body(task_id: str) -> dict[str, Any]:
    """Give the answer for a task that is not, or no longer, there."""
    return {"output": {"task_id": task_id, "task_status": Status.UNKNOWN.value}}


def list_row(task: Task, region: str) -> dict[str, Any]:
    """Give a task as the list shows it: epoch milliseconds, the submit's request id, no prompt, no usage."""
    return {
        "api_key_id": "1500001",
        "caller_parent_id": "1000000000000001",
        "caller_uid": "1000000000000001",
        "gmt_create": task.submitted,
        **_present(start_time=task.scheduled, end_time=task.ended),
        "model_name": task.edit.model,
        "region": region,
        "request_id": task.request_id,
        "status": task.status.value,
        "task_id": task.task_id,
        "user_api_unique_key": f"{_UNIQUE_KEY}{task.edit.model}",
    }


def _usage(task: Task, usage: Usage) -> dict[str, Any]:
    level = task.edit.resolution.removesuffix("P")
    # A float of two decimals prints as those decimals; the sums were made in Decimal.
    return {
        "duration": float(usage.billed_s),
        "input_video_duration": float(usage.input_s),
        "output_video_duration": float(usage.output_s),
        "video_count": 1,
        "SR": level if task.fate.sr_as_string else int(level),
    }


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
