"""The object store's manners: signatures, XML errors, ranges.

Sources: https://www.alibabacloud.com/help/en/oss/developer-reference/ddd-signatures-to-urls (V1 signatures),
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
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)$")


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

    The store answers a bad range with the whole object; under `x-oss-range-behavior: standard` it cuts an
    end that lies too far and refuses a start that does. Raises OssError (416) in that last case.
    """
    if header is None:
        return None
    match = _RANGE.match(header.split(",")[0].replace(" ", ""))
    first_text, last_text = match.groups() if match else ("", "")
    if first_text:
        first, last = int(first_text), int(last_text) if last_text else size - 1
    elif last_text:
        first, last = max(size - int(last_text), 0), size - 1
    else:
        return None
    if first <= last < size:
        return first, last
    if not standard or (first > last >= 0 and last_text and first_text and first < size):
        return None
    if first >= size:
        raise OssError(416, "InvalidRange", "The requested range cannot be satisfied")
    return first, size - 1
