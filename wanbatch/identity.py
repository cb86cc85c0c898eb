"""What makes two media, and two items, the same.

A key is a digest of what the service is asked for, and of the row's own id. A medium counts by the object it
names, not by the signature that opens it: a URL signed anew is the same item and is not paid again. A local
file counts by its bytes, so a changed file is another item.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from wanbatch.errors import UsageError
from wanbatch.models import MODEL

if TYPE_CHECKING:
    from wanbatch.models import EditRequest

PARAMETERS = (
    *("prompt", "negative_prompt", "resolution", "ratio", "duration"),
    *("audio_setting", "prompt_extend", "watermark", "seed"),
)
"""Everything an edit is asked for but its media, in the order of its key: fields of `EditRequest`."""
SEPARATOR = "\0"
"""Between the parts of what a key digests. No cell of a good row holds it, so no two rows make one text."""

TEMPORARY_STORE = "oss://dashscope-instant/"
"""Where uploads to the service lie for 48 hours; only the service reads there.

https://www.alibabacloud.com/help/en/model-studio/get-temporary-file-url
"""

BUCKETS = ("s3://", "oss://", "gs://")

SIGNATURE_PARAMETERS = frozenset(
    {
        *("expires", "ossaccesskeyid", "signature", "security-token"),  # OSS V1
        *("x-oss-signature", "x-oss-signature-version", "x-oss-credential", "x-oss-date"),  # OSS V4
        *("x-oss-expires", "x-oss-security-token", "x-oss-additional-headers", "x-oss-traffic-limit"),
        *("x-oss-ac-source-ip", "x-oss-ac-subnet-mask", "x-oss-ac-vpc-id", "x-oss-ac-forward-allow"),
        *("awsaccesskeyid", "key-pair-id", "policy", "hash-algorithm"),  # S3 V2, CloudFront
        *("googleaccessid", "accesskeyid", "x-obs-security-token"),  # Google V2, OBS
        *("q-sign-algorithm", "q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-url-param-list"),
        *("q-signature", "x-cos-security-token"),  # COS
        *("x-tos-algorithm", "x-tos-credential", "x-tos-date", "x-tos-expires", "x-tos-signedheaders"),
        *("x-tos-signature", "x-tos-security-token"),  # TOS
        *("auth_key", "hdnts", "hdnea", "hdntl"),  # CDNs: made anew for every link
        *("access_token", "authorization", "auth", "jwt", "apikey", "api_key", "api-key"),
        *("password", "passwd", "pwd", "secret", "client_secret"),
    }
)
"""They open the object and never name it; `x-oss-process` is not among them, it makes another object."""
SIGNATURE_PREFIXES = ("x-amz-", "x-goog-")
_AZURE_SIGNATURE = frozenset(
    {
        *("se", "sig", "sp", "sv", "sr", "st", "spr", "sip", "si", "ss", "srt", "sdd", "ses"),
        *("skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid"),
    }
)
_AMBIGUOUS = frozenset({"token", "sign", "sig", "key"})
"""They may be a secret or may name the object: digested, so that they still tell objects apart."""
_SIGNED = re.compile(r"(?s)\?.*=")
"""A bucket URL with something like parameters: nobody signs those, but who knows what was pasted there."""
_BARE = re.compile(r"(?s)[a-z][a-z0-9+.-]*://[^?@#]*")
"""It has nothing that may be a secret, and its scheme is written as that of a URL without its signature would be."""
_NESTED_LIMIT = 3
"""URLs inside the parameters of URLs that are looked into; whatever lies deeper is digested."""


def is_url(medium: str) -> bool:
    """Whether a medium is named by a URL rather than by a local path."""
    return "://" in medium or medium[:5].lower() == "data:"


def without_signature(url: str) -> str:
    """Return the URL without credentials, signature parameters and fragment: safe to store, log and show.

    A local path is returned as it is.
    """
    return _without_signature(url, 0)


def _without_signature(url: str, depth: int) -> str:
    if url[:5].lower() == "data:":
        return _digest_of_data(url)
    if not is_url(url) or _BARE.fullmatch(url):
        return url
    if url.startswith(BUCKETS) and not _SIGNED.search(url):
        return _without_credentials(url)
    try:
        parts = _split(url)
        query = parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape")
    except ValueError:
        return f"unreadable-url:{_digest(url)}"
    signs = _signature_names({name.lower() for name, _ in query})
    kept = [
        (name, _kept_value(name, value, depth))
        for name, value in query
        if name.lower() not in signs and not name.lower().startswith(SIGNATURE_PREFIXES)
    ]
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, urlencode(kept, errors="surrogateescape"), ""))


def _without_credentials(url: str) -> str:
    """Keep the whole key of an object in a bucket, where `?`, `#` and `@` are letters like any other."""
    scheme, _, rest = url.partition("://")
    bucket, slash, key = rest.partition("/")
    bucket = bucket.rpartition("@")[2]
    if ":" in bucket:  # half of a password with a slash in it
        return f"unreadable-url:{_digest(url)}"
    return f"{scheme}://{bucket}{slash}{key}"


def _split(url: str) -> SplitResult:
    """Split a URL. Raises `ValueError` when it is none: who knows where a secret stands in it."""
    parts = urlsplit(url)
    _ = parts.port  # what follows a password with a slash in it looks like a port that is no number
    if not parts.scheme or not parts.netloc:
        raise ValueError(url)
    return parts


def _signature_names(names: set[str]) -> frozenset[str]:
    azure = {"sv", "sig"} <= names or {"se", "sig"} <= names
    return SIGNATURE_PARAMETERS | _AZURE_SIGNATURE if azure else SIGNATURE_PARAMETERS


def _kept_value(name: str, value: str, depth: int) -> str:
    """Look into a parameter: players and proxies have links with a signed URL inside."""
    if name.lower() in _AMBIGUOUS or ("://" in value and depth == _NESTED_LIMIT):
        return _digest(value)
    return _without_signature(value, depth + 1) if "://" in value else value


def digest(content: bytes) -> str:
    """Digest anything: 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _digest(value: str) -> str:
    return digest(value.encode(errors="surrogatepass"))


def _digest_of_data(url: str) -> str:
    digest = hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()
    return f"{url.partition(',')[0][:64]},sha256:{digest}"


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


def item_key(request: EditRequest, item_id: str | None) -> str:
    """Digest what the service is asked for and the row's own id: 32 hexadecimal digits.

    The parts are the model, the `PARAMETERS`, the id and the media; what is left out is an empty text. A manifest's
    rows have theirs from `wanbatch.manifest.keys`. Raises `UsageError` when a local file can't be read.
    """
    asked = (_part(getattr(request, name)) for name in PARAMETERS)
    media = (media_identity(medium) for medium in request.media)
    return _digest(SEPARATOR.join((MODEL, *asked, item_id or "", *media)))


def _part(value: str | int | None) -> str:
    """Write a value as a cell of a checked manifest has it."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
