"""The error table against the service's own texts, and against texts nobody expects."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanbatch.catalogue import Ruling, Throttle, Verdict, as_markdown, rule

ROOT = Path(__file__).parents[1]
ERRORS: list[dict[str, Any]] = tomllib.loads((ROOT / "tests/samples/errors.toml").read_text("utf-8"))["error"]
CASES = [
    pytest.param(status or None, error, message, id=f"{status or 'task'}-{error['code']}-{message[:30]}")
    for error in ERRORS
    for status in error["http"]
    for message in error["messages"]
]
STATUSES = st.none() | st.integers(100, 599) | st.integers()
CODES = st.sampled_from(sorted({error["code"] for error in ERRORS})) | st.text()


@pytest.mark.parametrize(("status", "error", "message"), CASES)
def test_known_error(status: int | None, error: dict[str, Any], message: str) -> None:
    """Every text the service is known to send gets its verdict and, when throttled, its limit."""
    ruling = rule(status, error["code"], message)
    assert ruling.verdict is Verdict[error["verdict"]]
    assert ruling.throttle is (Throttle[error["throttle"]] if "throttle" in error else None)


@pytest.mark.parametrize(("status", "error", "message"), CASES)
def test_case_and_link_do_not_matter(status: int | None, error: dict[str, Any], message: str) -> None:
    """Case, padding and an appended link to the documentation change nothing."""
    dressed = f" {message.upper()}  For details, see: https://help.aliyun.com/error-code#x"
    assert rule(status, f" {error['code'].swapcase()} ", dressed) == rule(status, error["code"], message)


@given(STATUSES, CODES, st.text())
def test_always_a_ruling(status: int | None, code: str, message: str) -> None:
    """Whatever the network says there is a ruling with one line of advice, and a limit only when throttled."""
    ruling = rule(status, code, message)
    assert isinstance(ruling, Ruling)
    assert ruling.mend
    assert len(ruling.mend.splitlines()) == 1
    assert (ruling.throttle is not None) == (ruling.verdict is Verdict.THROTTLED)


@given(CODES, st.text())
def test_a_bad_key_always_stops(code: str, message: str) -> None:
    """A 401 stops the run whatever else it says."""
    assert rule(401, code, message).verdict is Verdict.STOP_RUN


@given(
    st.integers(500, 599), CODES.filter(lambda code: not code.startswith(("Throttling", "Model"))), st.text()
)
def test_a_server_error_is_never_unknown(status: int, code: str, message: str) -> None:
    """A 5xx is never a mystery: a query that meets one goes on, so that a paid task is not left alone."""
    assert rule(status, code, message).verdict is not Verdict.UNKNOWN


@given(st.integers(1, 10**6), st.text())
def test_unknown_code_is_not_retried(number: int, message: str) -> None:
    """A code nobody has written down is reported, whatever its message promises."""
    assert rule(None, f"Novelty.{number}", message).verdict is Verdict.UNKNOWN
    assert rule(400, f"Novelty.{number}", message).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "known", ["failed to download", "Model not exist.", "url error, check url!", "concurrent", "output"]
)
@pytest.mark.parametrize(
    "around",
    [
        "Prompt is too long: {}",
        'The prompt "{}" is too long',
        "Field required, got '{}'",
        "Range of video https://example.com/{}/a.mp4 should be",
    ],
)
def test_echoed_input_does_not_decide(known: str, around: str) -> None:
    """A user's prompt or URL inside a message can't turn a hopeless row into a retry or stop the run."""
    assert rule(400, "InvalidParameter", around.format(known)).verdict is Verdict.FIX_INPUT


def test_output_moderation_is_told_from_input() -> None:
    """The advice differs: a judged output may pass with another seed, a judged input can't."""
    assert "seed" in rule(None, "DataInspectionFailed", "Output data may contain …").mend
    assert "seed" not in rule(None, "DataInspectionFailed", "Input data may contain …").mend


def test_long_message_is_read_in_bounds() -> None:
    """A message of megabytes is ruled like its beginning."""
    message = "Failed to download " + "a " * 2_000_000
    assert rule(None, "InvalidParameter", message).verdict is Verdict.NEW_ATTEMPT


def test_the_page_is_the_table() -> None:
    """docs/errors.md is the catalogue itself; rewrite it with `as_markdown()` when the table changes."""
    assert (ROOT / "docs/errors.md").read_text("utf-8") == as_markdown()
