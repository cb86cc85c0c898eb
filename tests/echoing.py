"""A gateway before the emulator that tells everybody what it was asked, keys and signatures included."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORDS = {"echo-400": 400, "echo-500": 500, "echo-html": 502}
"""A prompt with such a word is answered so; but the first time alone where nobody knows whether it took effect."""
_SIGNATURE = re.compile(r'[?&](?:X-Amz-|x-oss-)?(?:Signature|Credential)=([^&"]{8,})', re.IGNORECASE)
_VIDEO_URL = re.compile(r'"video_url":\s*"[^"?]*\?([^"]+)"')


@dataclass
class Gateway:
    """Where it listens, and what passed."""

    behind: str
    origin: str = ""
    authorizations: set[str] = field(default_factory=set)
    submitted: list[str] = field(default_factory=list)
    result_secrets: set[str] = field(default_factory=set)
    """What signed the result URLs that were given away."""
    echoed: int = 0
    _done: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Give its address, with the path of the API."""
        return f"{self.origin}/api/v1"

    def signatures(self) -> set[str]:
        """Give what signed the URLs that the service was given, however short-lived."""
        return {unquote(found) for body in self.submitted for found in _SIGNATURE.findall(body)}

    def status_for(self, body: str) -> int | None:
        """Say how a submit is to be refused, if it is."""
        for word, status in _WORDS.items():
            if word in body and word not in self._done:
                if status >= 500:
                    self._done.add(word)
                return status
        return None


class _Handler(BaseHTTPRequestHandler):
    gateway: Gateway

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.path.endswith("/video-synthesis"):
            told = body.decode()
            self.gateway.submitted.append(told)
            if status := self.gateway.status_for(told):
                self._echo(status, told)
                return
        self._pass_on(body)

    def do_GET(self) -> None:
        if self.path.startswith("/media/"):
            self.gateway.echoed += 1
            told = f"<Error>{self.gateway.origin}{self.path} has expired</Error>"
            self._answer(403, told.encode(), "application/xml")
        else:
            self._pass_on(b"")

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def _pass_on(self, body: bytes) -> None:
        self.gateway.authorizations.add(self.headers.get("authorization", ""))
        passed = {n: v for n, v in self.headers.items() if n.lower() not in {"host", "content-length"}}
        answer = httpx.request(
            self.command, self.gateway.behind + self.path, content=body, headers=passed, timeout=60
        )
        for query in _VIDEO_URL.findall(answer.text):
            signed = {value for name, value in parse_qsl(query) if name != "Expires"}
            self.gateway.result_secrets |= signed
        kept = {n: v for n, v in answer.headers.items() if n.lower() in {"date", "retry-after"}}
        self._answer(answer.status_code, answer.content, answer.headers.get("content-type", ""), **kept)

    def _echo(self, status: int, body: str) -> None:
        self.gateway.echoed += 1
        headers = dict(self.headers.items())
        told = f"{self.path} Authorization: {self.headers['authorization']} {headers} {body}"
        if status == _WORDS["echo-html"]:
            self._answer(status, f"<html><pre>{told}</pre></html>".encode(), "text/html")
            return
        code = "InvalidParameter" if status < 500 else "InternalError"
        content = {"code": code, "message": f"refused: {told}", "request_id": "0c8f1e2d"}
        self._answer(status, json.dumps(content).encode(), "application/json")

    def _answer(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response_only(status)
        for name, value in ({"content-type": kind, "content-length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def echoing(behind: str) -> Iterator[Gateway]:
    """Stand before the service whose origin is `behind`; `/media/` is refused with the URL in the answer."""
    gateway = Gateway(behind)
    handler = type("Handler", (_Handler,), {"gateway": gateway})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    gateway.origin = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
