"""What the API means, held against the shapes that the vendor publishes."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanbatch import wire
from wanbatch.errors import BadAnswer, NeverSent, Refused, SubmitInDoubt
from wanbatch.models import AudioSetting, EditRequest, Ratio, Resolution, TaskStatus
from wanbatch.wire import Accepted, Answer, Failure

TASK = "0385dc79-5ff8-4d82-bcb6-000000000001"
DONE: dict[str, Any] = {
    "request_id": "f16ae7e9-d518-92f8-a02c-000000000001",
    "output": {
        "task_id": TASK,
        "task_status": "SUCCEEDED",
        "submit_time": "2026-04-03 00:08:03.576",
        "scheduled_time": "2026-04-03 00:08:13.408",
        "end_time": "2026-04-03 00:11:57.286",
        "orig_prompt": "Convert the entire scene to a claymation style",
        "video_url": "https://dashscope-a717.oss-accelerate.aliyuncs.com/x.mp4?Expires=1&Signature=s",
    },
    "usage": {
        "duration": 10.04,
        "input_video_duration": 5.02,
        "output_video_duration": 5.02,
        "video_count": 1,
        "SR": 720,
    },
}


def answer(content: Any, status: int = 200, **headers: str) -> Answer:
    """Make an answer of the API's JSON."""
    return Answer(status, headers, json.dumps(content).encode())


def done(**usage: Any) -> Answer:
    """Make the answer about a finished task, its usage changed."""
    return answer(DONE | {"usage": {**DONE["usage"], **usage}})


# ------------------------------------------------------------------------------------------------ requests


def test_a_request_says_only_what_is_not_the_services_own_default() -> None:
    """A plain edit sends its video and, because it sets the price, its resolution."""
    body = wire.submit_body(EditRequest(video="https://x/v.mp4"), ["https://x/v.mp4"])
    assert body == {
        "model": "wan2.7-videoedit",
        "input": {"media": [{"type": "video", "url": "https://x/v.mp4"}]},
        "parameters": {"resolution": "1080P"},
    }


def test_a_request_carries_every_parameter() -> None:
    """Every parameter of the reference arrives under its name and in its place."""
    request = EditRequest(
        video="v",
        prompt="p",
        negative_prompt="n",
        reference_images=("a", "b"),
        resolution=Resolution.P720,
        ratio=Ratio.TALL,
        duration=3,
        audio_setting=AudioSetting.ORIGIN,
        prompt_extend=False,
        watermark=True,
        seed=0,
    )
    body = wire.submit_body(request, ["oss://v", "https://x/a.png", "https://x/b.png"])
    assert body["input"] == {
        "prompt": "p",
        "negative_prompt": "n",
        "media": [
            {"type": "video", "url": "oss://v"},
            {"type": "reference_image", "url": "https://x/a.png"},
            {"type": "reference_image", "url": "https://x/b.png"},
        ],
    }
    assert body["parameters"] == {
        "resolution": "720P",
        "ratio": "9:16",
        "duration": 3,
        "audio_setting": "origin",
        "prompt_extend": False,
        "watermark": True,
        "seed": 0,
    }


def test_uploaded_media_are_resolved() -> None:
    """The header that resolves `oss://` goes with requests that have one, and the asynchronous one with all."""
    assert wire.submit_headers(["https://x"]) == {"X-DashScope-Async": "enable"}
    assert wire.submit_headers(["https://x", "oss://y"])["X-DashScope-OssResourceResolve"] == "enable"


# ------------------------------------------------------------------------------------------ submit outcomes


REFUSAL = {"code": "InvalidApiKey", "message": "No API-key provided.", "request_id": "r"}
ACCEPTED = {"output": {"task_status": "PENDING", "task_id": TASK}, "request_id": "r"}


@pytest.mark.parametrize(
    ("exchange", "outcome"),
    [
        (Failure("refused", sent=False), NeverSent),
        (Failure("dropped", sent=True), SubmitInDoubt),
        (answer(ACCEPTED), Accepted),
        (answer(REFUSAL, 401), Refused),
        (answer(REFUSAL, 400), Refused),
        (answer(REFUSAL, 429), Refused),
        (answer(REFUSAL, 500), SubmitInDoubt),
        (answer(REFUSAL, 200), SubmitInDoubt),
        (answer(ACCEPTED, 500), SubmitInDoubt),
        (answer({"error": "no such route"}, 404), SubmitInDoubt),
        (answer({"code": "X"}, 400), SubmitInDoubt),
        (answer({"output": {}, "request_id": "r"}), SubmitInDoubt),
        (answer({"output": {"task_id": ""}}), SubmitInDoubt),
        (answer({"output": {"task_id": 7}}), SubmitInDoubt),
        (answer([]), SubmitInDoubt),
        (Answer(200, {}, b'{"output": {"task_id": "x"'), SubmitInDoubt),
        (Answer(200, {}, json.dumps(ACCEPTED).encode(), whole=False), SubmitInDoubt),
        (Answer(413, {}, b"<html>too large</html>"), SubmitInDoubt),
        (Answer(502, {}, b"<html>bad gateway</html>"), SubmitInDoubt),
        (Answer(302, {"location": "https://elsewhere"}, b""), SubmitInDoubt),
        (Answer(200, {}, b"\xff\xfe\x00"), SubmitInDoubt),
        (Answer(200, {}, b"[" * 100_000), SubmitInDoubt),
    ],
)
def test_a_submit_has_one_of_four_outcomes(exchange: Answer | Failure, outcome: type) -> None:
    """Only an answer of the API itself accepts or refuses; only what never left is free to be sent again."""
    assert type(wire.submit_outcome(exchange)) is outcome


def test_a_doubt_keeps_the_request_id() -> None:
    """The id of an unanswered submit is kept when at least the headers came: the task list shows it."""
    outcome = wire.submit_outcome(Answer(200, {"x-request-id": "abc"}, b"", whole=False))
    assert isinstance(outcome, SubmitInDoubt)
    assert outcome.request_id == "abc"


@given(st.integers(100, 599), st.binary(max_size=200))
def test_any_answer_to_a_submit_is_an_outcome(status: int, body: bytes) -> None:
    """No answer whatever is an exception, and no garbage is an acceptance."""
    assert isinstance(wire.submit_outcome(Answer(status, {}, body)), SubmitInDoubt | Refused)


# ------------------------------------------------------------------------------------------------- queries


def test_a_finished_task_is_read_exactly() -> None:
    """Times become UTC, seconds stay the decimals that were written."""
    report = wire.task_report(answer(DONE), TASK)
    assert report.status is TaskStatus.SUCCEEDED
    assert report.submitted_at == datetime(2026, 4, 2, 16, 8, 3, 576_000, UTC)
    assert report.usage is not None
    assert (report.usage.billed_s, report.usage.sr) == (Decimal("10.04"), 720)
    assert "Signature" not in repr(report)


@pytest.mark.parametrize(
    ("given", "read"), [("720", 720), ("720P", 720), (1080, 1080), ("x", None), (None, None)]
)
def test_the_resolution_comes_as_a_number_or_as_text(given: Any, read: int | None) -> None:
    """`SR` is a number in some of the vendor's samples and text in others."""
    usage = wire.task_report(done(SR=given), TASK).usage
    assert usage is not None
    assert usage.sr == read


@pytest.mark.parametrize(
    ("usage", "billed"),
    [
        ({"duration": "10.04"}, Decimal("10.04")),
        ({"duration": 10}, Decimal(10)),
        ({"duration": None}, Decimal("10.04")),
        ({"duration": -1}, Decimal("10.04")),
        ({"duration": True}, Decimal("10.04")),
        ({"duration": None, "input_video_duration": None}, None),
        ({"duration": "NaN", "output_video_duration": "x"}, None),
    ],
)
def test_billed_seconds_are_read_or_unknown(usage: dict[str, Any], billed: Decimal | None) -> None:
    """What is billed is read, or added up from its parts, or unknown; never guessed."""
    found = wire.task_report(done(**usage), TASK).usage
    assert (found and found.billed_s) == billed


def test_a_failed_task_may_have_no_code() -> None:
    """FAILED without a code and without a message is still FAILED."""
    report = wire.task_report(answer({"output": {"task_id": TASK, "task_status": "FAILED"}}), TASK)
    assert (report.status, report.code, report.message) == (TaskStatus.FAILED, "", "")


@pytest.mark.parametrize(
    "body",
    [
        {"output": {"task_id": "another", "task_status": "SUCCEEDED"}},
        {"output": {"task_id": TASK}},
        {"output": {"task_id": TASK, "task_status": "PAUSED"}},
        {"output": None},
        {},
    ],
)
def test_an_answer_about_nothing_we_asked_is_bad(body: dict[str, Any]) -> None:
    """An answer that is not about our task, or says nothing, does not end a wait."""
    with pytest.raises(BadAnswer):
        wire.task_report(answer(body), TASK)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["output", "usage", "task_id", "task_status", "duration", "SR", "submit_time", "data", "code"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON, st.integers(100, 599))
def test_any_json_is_read_or_refused(content: Any, status: int) -> None:
    """Whatever JSON comes, the result is a value or a typed error."""
    for read in (lambda a: wire.task_report(a, TASK), wire.task_page, wire.upload_policy, wire.cancelled):
        with suppress(BadAnswer, Refused):
            read(answer(content, status))


@given(st.dictionaries(st.sampled_from(list(DONE["usage"])), JSON))
def test_any_usage_is_read(usage: dict[str, Any]) -> None:
    """A finished task stays finished whatever its usage says, and what is read of it is in bounds."""
    found = wire.task_report(done(**usage), TASK).usage
    assert found is None or 0 <= found.billed_s <= 2_000_000


def test_the_list_is_read() -> None:
    """A row of the list has the submit's request id and its time in milliseconds."""
    row = {
        "task_id": TASK,
        "status": "RUNNING",
        "request_id": "r",
        "gmt_create": 1745568428109,
        "api_key_id": "1",
    }
    page = wire.task_page(answer({"total": 1, "total_page": 1, "data": [row, {}, None, "x"]}))
    (task,) = page.tasks
    assert (task.status, task.submit_request_id, task.api_key_id) == (TaskStatus.RUNNING, "r", "1")
    assert task.created_at == datetime(2025, 4, 25, 8, 7, 8, 109_000, UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Sun, 22 Nov 2026 10:00:05 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 5.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_understood(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds and dates are understood; nonsense is no advice."""
    assert wire.retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("url", "until"),
    [
        ("https://x/v.mp4?Expires=1787578874&Signature=s", datetime(2026, 8, 24, 13, 41, 14, tzinfo=UTC)),
        ("https://x/v.mp4?Expires=soon", None),
        ("https://x/v.mp4?Expires=99999999999999999999", None),
        ("https://x/v.mp4", None),
        ("https://[", None),
        ("", None),
    ],
)
def test_a_result_url_says_until_when_it_holds(url: str, until: datetime | None) -> None:
    """The deadline of a download is read from the signed URL, where it is there."""
    assert wire.url_expiry(url) == until


@pytest.mark.parametrize(
    "text", ["9999-12-31 23:59:59.999", "0001-01-01 00:00:00.000", "2026-13-01 00:00:00", "", None]
)
def test_a_time_that_can_not_be_is_none(text: str | None) -> None:
    """Nonsense in a time is no time, and nobody adds hours to it."""
    assert wire.parse_time(text) is None
