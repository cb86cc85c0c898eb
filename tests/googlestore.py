"""As much of Google Cloud Storage's JSON API as one object needs, on a port.

https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

import base64
import email.policy
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects: ClassVar[dict[str, tuple[dict[str, Any], bytes]]] = {}

    def do_GET(self) -> None:
        """Describe an object, give its bytes, or list nothing."""
        parts = urlsplit(self.path)
        name = unquote(parts.path.rpartition("/o/")[2])
        if "/o/" not in parts.path:
            return self._answer(200, json.dumps({"items": []}).encode())
        if name not in self.objects:
            return self._answer(404, b'{"error": {"code": 404, "message": "No such object"}}')
        told, content = self.objects[name]
        if parse_qs(parts.query).get("alt") != ["media"]:
            return self._answer(200, json.dumps(told).encode())
        first, last = self.headers["range"].removeprefix("bytes=").split("-")
        return self._answer(206, content[int(first) : int(last) + 1])

    def do_POST(self) -> None:
        """Take a multipart upload, unless it is only wanted where there is nothing."""
        body = self.rfile.read(int(self.headers["content-length"]))
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        parts: Any = email.message_from_bytes(head + body, policy=email.policy.HTTP).get_payload()
        told, content = json.loads(parts[0].get_payload(decode=True)), parts[1].get_payload(decode=True)
        name = told["name"]
        if name in self.objects and "ifGenerationMatch=0" in self.path:
            return self._answer(412, b'{"error": {"code": 412, "message": "conditionNotMet"}}')
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        kept = told | {"bucket": "out", "size": str(len(content)), "md5Hash": digest, "generation": "1"}
        kept["contentType"] = parts[1].get_content_type()
        self.objects[name] = (kept, content)
        return self._answer(200, json.dumps(kept).encode())

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response_only(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving_google() -> Iterator[tuple[str, dict[str, tuple[dict[str, Any], bytes]]]]:
    """Serve an empty store while the block runs; gives its address and its objects."""
    _Handler.objects.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", _Handler.objects
    finally:
        server.shutdown()
        server.server_close()
