"""The object store's manners: signatures, XML errors, ranges.

Sources: https://www.alibabacloud.com/help/en/oss/developer-reference/signed-urls (V1 signatures),
https://www.alibabacloud.com/help/en/oss/how-to-obtain-oss-resources-by-segmenting-http-range-requests.
"""

import base64
import hashlib
import hmac
import re
import secrets
from typing import Final
from xml.sax.saxutils import escape

from starlette.responses import Response

ACCESS_KEY_ID: Final = "LTAI5tEmulatorAccess"
_RANGE: Final = re.compile(r"bytes=(?=\d|-\d)(?P<first>\d{0,18})-(?P<last>\d{0,18})", re.ASCII)


class OssError(Exception):
    """An answer of the object store that is not the object."""

    def __init__(self, status: int, code: str, message: str, **details: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = details

    def response(self, host: str) -> Response:
        """Give the XML the store sends."""
        request_id = oss_request_id()
        elements = {"Code": self.code, "Message": self.message, "RequestId": request_id, "HostId": host}
        lines = "".join(
            f"  <{name}>{escape(text)}</{name}>\n" for name, text in (elements | self.details).items()
        )
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n{lines}</Error>\n'
        return Response(body, self.status, {"x-oss-request-id": request_id}, media_type="application/xml")


def oss_request_id() -> str:
    """Give an id in the store's form: 24 upper-case hexadecimal digits."""
    return secrets.token_hex(12).upper()


class Signer:
    """Signs and verifies in the store's V1 fashion, with a secret of its own."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(30)

    def sign(self, text: str) -> str:
        """Give the Base64 HMAC-SHA1 of the text."""
        return base64.b64encode(hmac.digest(self._secret, text.encode(), hashlib.sha1)).decode()

    def holds(self, text: str, signature: str) -> bool:
        """Tell whether the signature is this signer's for the text."""
        return hmac.compare_digest(self.sign(text).encode(), signature.encode())


def read_range(header: str | None, size: int, *, standard: bool) -> tuple[int, int] | None:
    """Give the first and last byte asked for, or None for the whole object; only the first range counts.

    The store answers a range it does not like with the whole object. Under `x-oss-range-behavior: standard`
    it cuts one that reaches too far, and refuses one with nothing in it: OssError (416).
    """
    match = _RANGE.fullmatch((header or "").split(",")[0].strip())
    if match is None:
        return None
    first, last = _bounds(match["first"], match["last"], size)
    if first > last and match["first"] and match["last"]:
        return None
    if 0 <= first <= last < size:
        return first, last
    if not standard:
        return None
    if first >= size:
        raise OssError(416, "InvalidRange", "The requested range cannot be satisfied")
    return max(first, 0), size - 1


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return size - int(last), size - 1
    return int(first), int(last) if last else size - 1
