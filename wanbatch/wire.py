"""What the API means: request bodies out, answers in. Pure functions, no I/O.

Shapes: https://www.alibabacloud.com/help/en/model-studio/wan-video-editing-api-reference and
https://www.alibabacloud.com/help/en/model-studio/manage-asynchronous-tasks
Numbers are read as `Decimal`, so that the seconds billed stay the seconds billed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from wanbatch.errors import BadAnswer, NeverSent, Refused, SubmitInDoubt
from wanbatch.models import MODEL, AudioSetting, ListedTask, TaskReport, TaskStatus, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wanbatch.models import EditRequest

SUBMIT_PATH = "/services/aigc/video-generation/video-synthesis"
TASKS_PATH = "/tasks"
UPLOADS_PATH = "/uploads"

SERVICE_ZONE = timezone(timedelta(hours=8))
"""Times in task answers are UTC+8 and do not say so."""
_YEARS = range(2000, 2200)
_MOST_SECONDS = Decimal(1_000_000)
_STRING_LIMIT = 10_000
_HTTP_OK = 200
_HTTP_CLIENT_ERRORS = range(400, 500)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; header names are lower case. `whole` is false when the body broke off."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    """No HTTP answer at all. `sent` is false only when nothing can have left this machine."""

    reason: str
    sent: bool


@dataclass(frozen=True, slots=True)
class Accepted:
    """The service has made a provider task, and will bill it when it succeeds."""

    task_id: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of the provider's task list."""

    tasks: tuple[ListedTask, ...]
    total: int | None
    total_pages: int | None


@dataclass(frozen=True, slots=True)
class UploadPolicy:
    """What one form upload to the temporary store needs."""

    host: str
    directory: str
    fields: Mapping[str, str] = field(repr=False)


# ----------------------------------------------------------------------------------------------- requests


def submit_headers(media: Sequence[str]) -> dict[str, str]:
    """Give the headers of a submit: asynchronous always, and `oss://` resolved when there is one."""
    headers = {"X-DashScope-Async": "enable"}
    if any(url.startswith("oss://") for url in media):
        headers["X-DashScope-OssResourceResolve"] = "enable"
    return headers


def submit_body(request: EditRequest, media: Sequence[str]) -> dict[str, Any]:
    """Build the body of a submit; `media` are the URLs to send, the video first.

    What is the service's default is left out, except the resolution, which sets the price.
    """
    video, *references = media
    entered: dict[str, Any] = {
        "media": [{"type": "video", "url": video}]
        + [{"type": "reference_image", "url": url} for url in references]
    }
    if request.prompt:
        entered["prompt"] = request.prompt
    if request.negative_prompt:
        entered["negative_prompt"] = request.negative_prompt
    parameters: dict[str, Any] = {"resolution": str(request.resolution)}
    if request.ratio:
        parameters["ratio"] = str(request.ratio)
    if request.duration:
        parameters["duration"] = request.duration
    if request.audio_setting is not AudioSetting.AUTO:
        parameters["audio_setting"] = str(request.audio_setting)
    if not request.prompt_extend:
        parameters["prompt_extend"] = False
    if request.watermark:
        parameters["watermark"] = True
    if request.seed is not None:
        parameters["seed"] = request.seed
    return {"model": MODEL, "input": entered, "parameters": parameters}


# ------------------------------------------------------------------------------------------------ answers


def submit_outcome(exchange: Answer | Failure) -> Accepted | Refused | NeverSent | SubmitInDoubt:
    """Decide what a submit came to; nothing else decides it.

    Accepted: 200 with a task_id. Refused: the API's own JSON with a 4xx. Never sent: nothing left this
    machine. Everything else is in doubt, because the service may have made the task and billed it.
    """
    if isinstance(exchange, Failure):
        return SubmitInDoubt(exchange.reason) if exchange.sent else NeverSent(exchange.reason)
    request_id = exchange.headers.get("x-request-id")
    try:
        content = _object(exchange)
    except BadAnswer as error:
        return SubmitInDoubt(str(error), request_id=request_id)
    request_id = _text(content.get("request_id")) or request_id
    output = content.get("output")
    task_id = _text(output.get("task_id")) if isinstance(output, dict) else None
    if exchange.status == _HTTP_OK and task_id:
        return Accepted(task_id, request_id)
    if exchange.status in _HTTP_CLIENT_ERRORS and (refused := _refusal(exchange, content)):
        return refused
    return SubmitInDoubt(f"HTTP {exchange.status} without a task_id", request_id=request_id)


def task_report(answer: Answer, task_id: str) -> TaskReport:
    """Read the answer to a query; raises `Refused` or `BadAnswer`."""
    content = _success(answer)
    output = content.get("output")
    if not isinstance(output, dict):
        raise BadAnswer("the answer about a task has no output")
    if (told := output.get("task_id")) != task_id:
        raise BadAnswer(f"asked about task {task_id}, the answer is about {_text(told) or 'none'}")
    status = _status(output.get("task_status"))
    if status is None:
        raise BadAnswer(f"the answer about task {task_id} has no known status")
    return TaskReport(
        task_id=task_id,
        status=status,
        submitted_at=parse_time(output.get("submit_time")),
        scheduled_at=parse_time(output.get("scheduled_time")),
        ended_at=parse_time(output.get("end_time")),
        orig_prompt=_text(output.get("orig_prompt")),
        video_url=_text(output.get("video_url")),
        usage=_usage(content.get("usage")),
        code=_text(output.get("code")) or "",
        message=_text(output.get("message")) or "",
        request_id=_text(content.get("request_id")),
    )


def task_page(answer: Answer) -> TaskPage:
    """Read one page of the list; raises `Refused` or `BadAnswer`."""
    content = _success(answer)
    rows = content.get("data")
    if not isinstance(rows, list):
        raise BadAnswer("the task list has no data")
    return TaskPage(
        tasks=tuple(task for row in rows if (task := _listed(row))),
        total=_whole(content.get("total")),
        total_pages=_whole(content.get("total_page")),
    )


def cancelled(answer: Answer) -> None:
    """Read the answer to a cancel; raises `Refused` or `BadAnswer`."""
    _success(answer)


def upload_policy(answer: Answer) -> UploadPolicy:
    """Read the upload credential; raises `Refused` or `BadAnswer`."""
    data = _success(answer).get("data")
    if not isinstance(data, dict):
        raise BadAnswer("the upload credential is not there")
    texts = {name: _text(value) for name, value in data.items()}
    needed = ("policy", "signature", "upload_dir", "upload_host", "oss_access_key_id")
    if missing := [name for name in needed if not texts.get(name)]:
        raise BadAnswer(f"the upload credential lacks {', '.join(missing)}")
    if not _is_address(str(texts["upload_host"])):
        raise BadAnswer("the upload credential has no usable address")
    return UploadPolicy(
        host=str(texts["upload_host"]),
        directory=str(texts["upload_dir"]),
        fields={
            "OSSAccessKeyId": str(texts["oss_access_key_id"]),
            "Signature": str(texts["signature"]),
            "policy": str(texts["policy"]),
            "x-oss-object-acl": texts.get("x_oss_object_acl") or "private",
            "x-oss-forbid-overwrite": texts.get("x_oss_forbid_overwrite") or "true",
            "success_action_status": "200",
        },
    )


def parse_time(text: object) -> datetime | None:
    """Read `YYYY-MM-DD HH:mm:ss.SSS` in UTC+8 as UTC; None when it is not that."""
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.fromisoformat(text.strip())
        return _plausible((parsed if parsed.tzinfo else parsed.replace(tzinfo=SERVICE_ZONE)).astimezone(UTC))
    except (ValueError, OverflowError):
        return None


def url_expiry(url: str) -> datetime | None:
    """Read until when a signed result URL holds: `Expires` in seconds since 1970; None when it does not say."""
    try:
        query = dict(parse_qsl(urlsplit(url).query))
        return _plausible(datetime.fromtimestamp(0, UTC) + timedelta(seconds=int(query["Expires"])))
    except (KeyError, ValueError, OverflowError):
        return None


def parse_date(header: str | None) -> datetime | None:
    """Read an HTTP `Date` header as UTC; None when it is not one."""
    if not header:
        return None
    try:
        parsed = parsedate_to_datetime(header)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, TypeError):
        return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds the service asks us to wait; undocumented there, obeyed when it is said."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    until, now = parse_date(headers.get("retry-after")), parse_date(headers.get("date"))
    return max((until - now).total_seconds(), 0.0) if until and now else None


# ----------------------------------------------------------------------------------------------- the parts


def _is_address(url: str) -> bool:
    """Whether somebody could listen there; the port is in range when it can be read."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _success(answer: Answer) -> dict[str, Any]:
    content = _object(answer)
    if answer.status == _HTTP_OK and not content.get("code"):
        return content
    problem = _refusal(answer, content)
    raise problem or BadAnswer(f"HTTP {answer.status} without the API's code and message")


def _object(answer: Answer) -> dict[str, Any]:
    """Parse a body; raises `BadAnswer` unless it is a whole JSON object."""
    if not answer.whole:
        raise BadAnswer(f"the answer (HTTP {answer.status}) broke off")
    try:
        content = json.loads(answer.body, parse_float=_decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadAnswer(f"the answer (HTTP {answer.status}) is not the API's JSON") from None
    if not isinstance(content, dict):
        raise BadAnswer(f"the answer (HTTP {answer.status}) is not the API's JSON")
    return content


def _decimal(literal: str) -> Decimal:
    try:
        return Decimal(literal)
    except InvalidOperation:
        raise ValueError(literal) from None


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _refusal(answer: Answer, content: Mapping[str, Any]) -> Refused | None:
    """Read `{"code", "message", "request_id"}`; None when the body is not the API's own."""
    code, message = _text(content.get("code")), content.get("message")
    if not code or not isinstance(message, str):
        return None
    return Refused(
        http_status=answer.status,
        code=code,
        message=_storable(message),
        request_id=_text(content.get("request_id")),
        retry_after_s=retry_after(answer.headers),
    )


def _listed(row: object) -> ListedTask | None:
    if not isinstance(row, dict) or not (task_id := _text(row.get("task_id"))):
        return None
    return ListedTask(
        task_id=task_id,
        status=_status(row.get("status")) or TaskStatus.UNKNOWN,
        submit_request_id=_text(row.get("request_id")),
        created_at=_epoch_ms(row.get("gmt_create")),
        ended_at=_epoch_ms(row.get("end_time")),
        model=_text(row.get("model_name")),
        api_key_id=_text(row.get("api_key_id")),
    )


def _usage(value: object) -> Usage | None:
    """Read what was counted; None when the billed seconds are not there, whatever else is."""
    if not isinstance(value, dict):
        return None
    given, out = _seconds(value.get("input_video_duration")), _seconds(value.get("output_video_duration"))
    billed = _seconds(value.get("duration"))
    if billed is None and given is not None and out is not None:
        billed = given + out
    if billed is None:
        return None
    return Usage(
        billed_s=billed,
        input_video_s=given,
        output_video_s=out,
        video_count=_count(value.get("video_count")),
        sr=_count(value.get("SR")),
    )


def _seconds(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        seconds = Decimal(value)
    except InvalidOperation:
        return None
    return seconds if seconds.is_finite() and 0 <= seconds <= _MOST_SECONDS else None


def _whole(value: object) -> int | None:
    """Read an integer, also when it comes as the string "720" (the vendor's Java sample) or "720P"."""
    if isinstance(value, str):
        digits = value.strip().removesuffix("P").removesuffix("p")
        value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None  # noqa: PLR2004 - fits 32 bits
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _count(value: object) -> int | None:
    """Read an integer that fits the 32 bits of its columns."""
    number = _whole(value)
    return number if number is not None and 0 <= number < 2**31 else None


def _epoch_ms(value: object) -> datetime | None:
    number = _whole(value)
    if number is None:
        return None
    try:
        return _plausible(datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=number))
    except OverflowError:
        return None


def _plausible(moment: datetime) -> datetime | None:
    """Take no time for one that can't be: hours added to it would run over the calendar's end."""
    return moment if moment.year in _YEARS else None


def _status(value: object) -> TaskStatus | None:
    return TaskStatus(value) if isinstance(value, str) and value in set(TaskStatus) else None


def _text(value: object) -> str | None:
    return _storable(value) if isinstance(value, str) and value else None


def _storable(text: str) -> str:
    """Shorten a text, and replace what JSON can say and neither UTF-8 nor PostgreSQL can keep."""
    return (
        text[:_STRING_LIMIT]
        .replace("\0", "\ufffd")
        .encode("utf-16", "surrogatepass")
        .decode("utf-16", "replace")
    )
