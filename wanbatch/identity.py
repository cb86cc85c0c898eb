"""What makes two media, and two items, the same.

A key is a digest of what the service is asked for, and of the row's own id. A medium counts by the object it
names, not by the signature that opens it: a URL signed anew is the same item and is not paid again. A local
file counts by its bytes, so a changed file is another item.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from wanbatch.errors import UsageError
from wanbatch.models import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from wanbatch.models import EditRequest

_SIGNATURE_PARAMETERS = frozenset(
    {
        *("expires", "ossaccesskeyid", "signature", "security-token"),  # OSS V1
        *("awsaccesskeyid", "key-pair-id", "policy"),  # S3 V2, CloudFront
        "googleaccessid",
    }
)
_SIGNATURE_PREFIXES = ("x-oss-", "x-amz-", "x-goog-", "q-sign", "q-ak", "q-key-time", "q-header", "q-url")
_AZURE_SIGNATURE = frozenset(
    {"se", "sig", "sp", "sv", "sr", "st", "spr", "skoid", "sktid", "skt", "ske", "sks"}
)
_SECRETS = frozenset(
    {
        "token",
        "auth_key",
        "hdnts",
        "access_token",
        "sign",
        "sig",
        "key",
        "apikey",
        "api_key",
        "auth",
        "password",
    }
)
"""They may be a secret or may name the object: digested, so that they tell objects apart and give nothing away."""


def is_url(medium: str) -> bool:
    """Whether a medium is named by a URL rather than by a local path."""
    return "://" in medium or medium.startswith("data:")


def without_signature(url: str) -> str:
    """Return the URL without credentials, signature parameters and fragment: safe to store, log and show."""
    if url.startswith("data:"):
        return _digest_of_data(url)
    if "?" not in url and "@" not in url and "#" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.split("?", 1)[0].rpartition("@")[2]
    query = parse_qsl(parts.query, keep_blank_values=True)
    names = {name.lower() for name, _ in query}
    signs = _SIGNATURE_PARAMETERS | (_AZURE_SIGNATURE if {"se", "sig"} <= names else frozenset())
    kept = [
        (name, _digest(value) if name.lower() in _SECRETS else value)
        for name, value in query
        if name.lower() not in signs and not name.lower().startswith(_SIGNATURE_PREFIXES)
    ]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, urlencode(kept), ""))


def _digest(value: str) -> str:
    return hashlib.blake2b(value.encode(), digest_size=6).hexdigest()


def _digest_of_data(url: str) -> str:
    return f"{url.partition(',')[0][:64]},sha256:{hashlib.sha256(url.encode()).hexdigest()}"


def media_identity(medium: str) -> str:
    """Name the object behind a URL or a local path.

    Raises `UsageError` when a local file can't be read.
    """
    if is_url(medium):
        return without_signature(medium)
    try:
        stat = Path(medium).stat()
        return f"sha256:{_file_digest(medium, stat.st_size, stat.st_mtime_ns)}"
    except OSError as error:
        raise UsageError(
            f"{medium}: {error.strerror or error}; give a readable file or a URL the service can reach"
        ) from None


@lru_cache(maxsize=4096)
def _file_digest(path: str, _size: int, _mtime_ns: int) -> str:
    """Digest a file's bytes; size and time are only there to tell a changed file from the cached one."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def item_key(
    request: EditRequest, item_id: str | None, *, identify: Callable[[str], str] = media_identity
) -> str:
    """Digest what the service is asked for and the row's own id: 32 hexadecimal digits.

    `identify` names a medium. Raises `UsageError` when a local file can't be read.
    """
    fields = [
        MODEL,
        request.prompt or "",
        request.negative_prompt or "",
        [identify(medium) for medium in request.media],
        request.resolution,
        request.ratio,
        request.duration,
        request.audio_setting,
        request.prompt_extend,
        request.watermark,
        request.seed,
        item_id,
    ]
    return hashlib.blake2b(json.dumps(fields).encode(), digest_size=16).hexdigest()
