"""A real object store on a port of its own, and a proxy in front of it that misbehaves as it is told."""

from __future__ import annotations

import http.client
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote

import boto3  # type: ignore[import-untyped]  # it ships no types
import pytest
from moto.server import ThreadedMotoServer

from wanbatch.buckets.stores import store_of

KEY_ID, SECRET = "AKIAEXAMPLE", "s3cr3t-of-the-bucket"
_HOP = {"connection", "transfer-encoding", "keep-alive", "host"}


@dataclass
class Fault:
    """What goes wrong: `status` in place of an answer, `cut` in the middle of one, `lost` after it took effect.

    Or `hang`: nothing comes for a long while.
    """

    kind: str
    method: str = "GET"
    path: str = ""
    times: int = 1
    status: int = 500
    only_if_header: str = ""

    def strikes(self, method: str, path: str, headers: Any) -> bool:
        """Say whether a request is struck, and count it."""
        if self.times < 1 or method != self.method or self.path not in path:
            return False
        if self.only_if_header and self.only_if_header not in headers:
            return False
        self.times -= 1
        return True


@dataclass
class Store:
    """The store as a test sees it: from outside."""

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request."""

    @cached_property
    def client(self) -> Any:
        """The vendor's own client."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
        )

    def make(self, *buckets: str) -> None:
        """Make empty buckets, in place of any of these names."""
        client = self.client
        for bucket in buckets:
            if bucket in {each["Name"] for each in client.list_buckets()["Buckets"]}:
                for entry in client.list_objects_v2(Bucket=bucket).get("Contents", ()):
                    client.delete_object(Bucket=bucket, Key=entry["Key"])
            else:
                client.create_bucket(Bucket=bucket)

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Put an object."""
        self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def get(self, bucket: str, key: str) -> bytes:
        """Give an object's bytes."""
        content: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def keys(self, bucket: str) -> list[str]:
        """Name the objects of a bucket."""
        return [entry["Key"] for entry in self.client.list_objects_v2(Bucket=bucket).get("Contents", ())]

    def head(self, bucket: str, key: str) -> dict[str, Any]:
        """Give what the store tells of an object."""
        told: dict[str, Any] = self.client.head_object(Bucket=bucket, Key=key)
        return told

    def requests(self, method: str, path: str) -> int:
        """Count the requests that came."""
        return sum(1 for each, where in self.seen if each == method and path in where)

    def environment(self) -> dict[str, str]:
        """Give the settings by which the tools of this store find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "OSS_ENDPOINT": self.endpoint,
            "FSSPEC_OSS_KEY": KEY_ID,
            "FSSPEC_OSS_SECRET": SECRET,
        }


@contextmanager
def serving_store() -> Iterator[Store]:
    """Serve an S3 store behind a proxy, both on loopback."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    try:
        store = Store(f"http://127.0.0.1:{proxy.server_port}")
        _Proxy.behind[proxy.server_port] = (host, port, store)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield store
    finally:
        proxy.shutdown()
        proxy.server_close()
        server.stop()


@pytest.fixture(scope="module")
def served_store() -> Iterator[Store]:
    """Give a store for all tests of a file."""
    with serving_store() as store:
        yield store


@pytest.fixture
def store(served_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Give a store with the empty buckets `in`, `stage` and `out`, which the environment points to."""
    served_store.faults.clear()
    served_store.make("in-bucket", "stage", "out")
    served_store.seen.clear()
    for name, value in served_store.environment().items():
        monkeypatch.setenv(name, value)
    with fresh_stores():
        yield served_store


@contextmanager
def fresh_stores() -> Iterator[None]:
    """Forget the opened stores before and after: they have settings of their own time."""
    import fsspec.config  # noqa: PLC0415 - read anew, as a new process would

    store_of.cache_clear()
    before = dict(fsspec.config.conf)
    fsspec.config.set_conf_env(fsspec.config.conf)
    yield
    store_of.cache_clear()
    fsspec.config.conf.clear()
    fsspec.config.conf.update(before)


class _Proxy(BaseHTTPRequestHandler):
    """Passes requests on, and breaks what it was told to break."""

    protocol_version = "HTTP/1.1"
    behind: ClassVar[dict[int, tuple[str, int, Store]]] = {}
    one_at_a_time: ClassVar[threading.Lock] = threading.Lock()
    """moto fails with "I/O operation on closed file" when one object is put twice at once."""

    def _serve(self) -> None:
        host, port, store = self.behind[self.server.server_address[1]]  # type: ignore[index]  # an IPv4 address
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        where = unquote(self.path)
        store.seen.append((self.command, where))
        struck = next(
            (fault for fault in store.faults if fault.strikes(self.command, where, self.headers)), None
        )
        if struck and struck.kind == "status":
            return self._answer(struck.status, {}, b"<Error><Code>NotImplemented</Code></Error>")
        if struck and struck.kind == "hang":
            threading.Event().wait(60)
        status, headers, content = self._passed_on(host, port, body)
        if struck and struck.kind == "lost":
            self.close_connection = True
            return None
        return self._answer(status, headers, content, cut=bool(struck and struck.kind == "cut"))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - as the standard library calls them

    def _passed_on(self, host: str, port: int, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(host, port, timeout=30)
        sent = {name: value for name, value in self.headers.items() if name.lower() not in _HOP | {"expect"}}
        try:
            with self.one_at_a_time:
                connection.request(self.command, self.path, body, sent | {"Host": self.headers["host"]})
                answer = connection.getresponse()
                kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
                return answer.status, kept, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        length = {"content-length": str(len(content))} if self.command != "HEAD" else {}
        for name, value in ({name.lower(): value for name, value in headers.items()} | length).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = self.close_connection or cut

    def log_message(self, *_: object) -> None:
        """Say nothing."""
