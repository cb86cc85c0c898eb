"""No key and no signature leaves the process, whatever surrounds it, and what happened stays readable."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from wanbatch.redact import ScrubFilter, scrub

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = st.from_regex(r"[A-Za-z0-9]{16,40}", fullmatch=True)
AROUND = st.text(max_size=30) | st.text("aZ09 =&?:/\"'<>()%._-\n\x1b[", max_size=12)
SIGNED = [
    "https://bucket.oss-accelerate.aliyuncs.com/a.mp4?Expires=1&OSSAccessKeyId={}&Signature=x",
    "https://bucket.oss-accelerate.aliyuncs.com/a.mp4?Expires=1&OSSAccessKeyId=x&Signature={}",
    "http://bucket.oss-cn-beijing.aliyuncs.com/a.mp4?x-oss-signature={}&x-oss-expires=1",
    "https://bucket.s3.amazonaws.com/a.mp4?X-Amz-Signature={}",
    "https://bucket.s3.amazonaws.com/a.mp4?X-Amz-Credential=a&X-Amz-Security-Token={}",
    "https://storage.googleapis.com/b/a.mp4?X-Goog-Signature={}",
    "https://x.blob.core.windows.net/a.mp4?se=2026&sig={}",
    "https://cos.example.com/a.mp4?q-signature={}",
    "oss://bucket/a.mp4?Signature={}",
    "s3://bucket/a.mp4?X-Amz-Signature={}",
    "https://user:{}@example.com/a.mp4",
    "https://example.com/a.mp4?token={}",
    "https://example.com/a.mp4?auth_key={}",
    "https://example.com/a.mp4?a=1\\u0026Signature={}",
    "https://example.com/a.mp4?a=1&amp;Signature={}",
    "https://proxy.example.com/?url=https%3A%2F%2Fb%2Fa.mp4%3FExpires%3D1%26Signature%3D{}",
    "https://proxy.example.com/?url=https%3A%2F%2Fb%2Fa.mp4%3Ftoken%3D{}",
    "/a.mp4?Expires=1&Signature={}",
]


@given(AROUND, SECRET, AROUND, st.sampled_from(SIGNED))
@example("(see ", "abcdefghijklmnop", ").", SIGNED[0])
def test_no_signature_survives(before: str, secret: str, after: str, url: str) -> None:
    """The value of a signature parameter is gone, whatever stands around the URL."""
    assume(secret not in before + after + url)
    assert secret not in scrub(before + url.format(secret) + after)


@given(
    AROUND,
    SECRET,
    AROUND,
    st.sampled_from(["sk-{}", "sk-ws-{}", "Bearer {}", "bearer  {}", "Bearer%20sk-{}"]),
)
@example("\x1b[", "abcdefghijklmnop", "", "sk-{}")
def test_no_key_survives(before: str, secret: str, after: str, form: str) -> None:
    """An API key is gone, by itself and as a header."""
    key = form.format(secret + "7")
    assume(secret not in before + after)
    assert secret not in scrub(before + key + after)


@given(
    SECRET,
    st.sampled_from(["signature", "policy", "Authorization", "x-oss-signature", "api_key"]),
    st.booleans(),
)
def test_no_field_survives(secret: str, name: str, as_json: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    """Secrets in JSON, in a printed dict and in JSON inside JSON are gone."""
    assume(secret.lower() not in name.lower())
    fields = {name: secret, "host": "example.com"}
    text = json.dumps(fields) if as_json else str(fields)
    assert secret not in scrub(text)
    assert secret not in scrub(json.dumps({"message": text}))
    assert "example.com" in scrub(text)


@given(SECRET, st.integers(0, 30))
def test_invisible_characters_hide_nothing(secret: str, at: int) -> None:
    """A control or zero-width character inside a secret does not save it."""
    key = f"sk-{secret}7"
    broken = key[:at] + "\u200b\x1b[0m\x00" + key[at:]
    assert secret not in scrub(f"key {broken} refused")


@given(st.text())
@example("\ud800 https://example.com/?a=\ud800")
@example("https://[broken?Signature=x")
def test_one_printable_line_in_bounds(text: str) -> None:
    """Whatever comes, one printable line of at most 2,000 characters leaves."""
    clean = scrub(text)
    assert clean.isprintable()
    assert len(clean) <= 2_000


@given(AROUND, SECRET, AROUND, st.sampled_from(SIGNED))
def test_scrubbing_twice_uncovers_nothing(before: str, secret: str, after: str, url: str) -> None:
    """A message that is scrubbed again on its way stays clean."""
    assume(secret not in before + after + url)
    assert secret not in scrub(scrub(before + url.format(secret) + after))


@pytest.mark.parametrize(
    "text",
    [
        "Requests rate limit exceeded, please try again later.",
        "Invalid according to Policy: Policy expired.",
        "task-0c8f1e2d-1111-4222-8333-444455556666 is RUNNING",
        "disk-full on /var: 3 of 5",
        "镜头 1 价格不明",
        "Range of seed should be [0, 2147483647], got key=3f2a",
        "https://example.com/a.mp4 is no video",
    ],
)
def test_harmless_text_stays(text: str) -> None:
    """A message without secrets is left as it is."""
    assert scrub(text) == text


def test_object_stays_named() -> None:
    """The object behind a signed URL can still be told, up to the sentence's own full stop."""
    text = (
        "Failed to download http://b.oss.aliyuncs.com/a.mp4?versionId=7&OSSAccessKeyId=LTAIx&Signature=y%3D."
    )
    assert scrub(text) == "Failed to download http://b.oss.aliyuncs.com/a.mp4?versionId=7."


def test_escapes_are_taken_out_whole() -> None:
    """Colours, titles and links meant for a terminal leave nothing behind, and lines become one."""
    assert scrub("\x1b[31mred\x1b[0m\x1b]0;title\x07 alert\r\nnext\u202e") == "red alert  next"


def test_long_text_is_cut() -> None:
    """A long message ends in an ellipsis; one of megabytes costs no more than its beginning."""
    assert scrub("a" * 5_000_000) == "a" * 1_999 + "…"
    assert len(scrub("data:video/mp4;base64," + "A" * 5_000_000)) < 200


@pytest.mark.timeout(10)
@pytest.mark.parametrize("part", ["sk-", "sk-aaaaaaaa-", "a://", "x-oss-", "ossa", "'a", "bearer ", "data:"])
def test_hostile_text_is_no_hang(part: str) -> None:
    """A text built to send the search over it again and again is done with like any other."""
    assert len(scrub(part * (19_000 // len(part)) + " Signature=")) <= 2_000


@pytest.fixture
def logged() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """Yield a logger whose only handler has the filter."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(ScrubFilter())
    logger = logging.getLogger("tests.scrubbed")
    logger.propagate = False
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


def test_log_records_are_scrubbed(logged: tuple[logging.Logger, io.StringIO]) -> None:
    """Message, arguments, exception text and stack of a record carry no secrets; a traceback keeps its lines."""
    logger, stream = logged
    try:
        int("https://b/a?Signature=topsecret01 sk-topsecret02")
    except ValueError:
        logger.exception(
            "GET %s with %r", "https://b/a?Signature=topsecret03", {"Authorization": "Bearer topsecret04"}
        )
    logger.warning("sk-topsecret05", stack_info=True)
    text = stream.getvalue()
    assert "topsecret" not in text
    assert "GET https://b/a with" in text
    assert "Traceback" in text
    assert "with base 10: 'https://b/a ***'\n" in text


def test_log_arguments_that_do_not_fit(logged: tuple[logging.Logger, io.StringIO]) -> None:
    """A record whose arguments don't fit its message is logged without them; nothing is raised."""
    logger, stream = logged
    message = "%d items of %d"
    logger.warning(message, "sk-topsecret01")
    assert stream.getvalue() == f"{message}\n"
