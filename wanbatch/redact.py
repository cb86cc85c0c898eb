"""Text from the network, from exceptions and for logs, made safe to store and show.

API keys, signatures, control characters and sheer length go; what happened stays. A URL loses what
`wanbatch.identity` calls its signature. What is left is searched for `name=value` of the known secrets too,
since messages carry URLs in pieces, escaped as JSON or HTML, or inside another URL.
"""

from __future__ import annotations

import logging
import re

from wanbatch.identity import without_signature

_LONGEST = 2_000
_READ = 10 * _LONGEST
"""Characters that are looked at; cutting before scrubbing can only shorten a secret, not uncover it."""
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x9b[0-?]*[ -/]*[@-~]")
_SUSPECT = re.compile(r"://|data:|sk-|bearer|=|%3d|[\"']\s*:|LTAI|STS\.", re.IGNORECASE)
"""Without any of these there is nothing to find."""
_AMPERSAND = re.compile(r"&amp;|\\u0026", re.IGNORECASE)
_URL = re.compile(
    r"[a-z][a-z0-9+.-]{0,15}://[^\s\"'<>]*[^\s\"'<>.,;:)\]}]|data:[\w/+.-]*[;,][^\s\"'<>]*", re.IGNORECASE
)
_LONG_NAMES = (
    r"signature|security[_-]token|(?:oss|aws)[a-z_]{0,12}key_?id|googleaccessid"
    r"|key-pair-id|x-(?:oss|amz|goog)-[a-z0-9-]{1,40}|q-(?:sign|ak|key|header|url)[a-z0-9-]{0,40}"
    r"|auth_key|access_token|api_?key|password|hdnts"
)
"""They mean a secret wherever they stand."""
_SHORT_NAMES = r"sig|se|sp|sv|sr|st|sign|key|auth|token|policy|expires"
"""They mean one only inside a query."""
_PARAMETER = re.compile(
    rf"((?:{_LONG_NAMES}|(?<=[?&])(?:{_SHORT_NAMES})|(?<=%26|%3f)(?:{_SHORT_NAMES}))(?:=|%(?:25)*3d))"
    r"[^\s&\"'<>]+",
    re.IGNORECASE,
)
_FIELD = re.compile(
    rf"([\"'][a-z0-9_-]{{0,20}}(?:{_LONG_NAMES}|policy|authorization)\\?[\"']\s*:\s*\\?[\"'])[^\"'\\]+",
    re.IGNORECASE,
)
"""The same in JSON, or in a dict as Python prints it."""
_KEY = re.compile(
    r"(?<![A-Za-z])sk-[\w.~+/-]+"  # one by itself, however short
    r"|sk-(?:[A-Za-z]{1,8}-){0,2}(?=\w*\d)\w{16,}"  # one glued to a word; the UUID after "task-" is none
    r"|\b(?:LTAI|STS\.)\w{6,}"
)
_BEARER = re.compile(r"(bearer(?:\s|%20|\+)+)[^\s\"',;<>]+", re.IGNORECASE)


def scrub(text: str) -> str:
    """Return at most 2,000 printable characters on one line, without keys and signatures."""
    if len(text) > _READ:
        text = text[:_READ] + "…"
    if not text.isprintable():
        text = text.encode(errors="ignore").decode()  # halves of surrogate pairs can't be quoted in a URL
        # Searched before as well: an escape may swallow the first letter of a key that follows it.
        text = _printable(_ANSI.sub("", _without_secrets(text)))
    if _SUSPECT.search(text):
        text = _without_secrets(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _printable(text: str) -> str:
    """Turn line ends and odd spaces into spaces; drop control, invisible and direction characters."""
    return "".join(mark if mark.isprintable() else " " if mark.isspace() else "" for mark in text)


def _without_secrets(text: str) -> str:
    text = _URL.sub(lambda found: without_signature(found[0]), _AMPERSAND.sub("&", text))
    text = _FIELD.sub(r"\1***", _PARAMETER.sub(r"\1***", text))
    return _KEY.sub("***", _BEARER.sub(r"\1***", text))


class ScrubFilter(logging.Filter):
    """Scrubs every record: put it on the handlers, so that it sees the records of all libraries."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace message, arguments, exception and stack by scrubbed text; every record passes."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that don't fit are the handler's to report, not ours to raise
            message = str(record.msg)
        record.msg, record.args = scrub(message), ()
        if record.exc_info:
            record.exc_text = record.exc_text or logging.Formatter().formatException(record.exc_info)
            record.exc_info = None  # else a handler with its own formatting would print the original
        record.exc_text = record.exc_text and _scrub_lines(record.exc_text)
        record.stack_info = record.stack_info and _scrub_lines(record.stack_info)
        return True


def _scrub_lines(text: str) -> str:
    return "\n".join(scrub(line) for line in text.splitlines())
