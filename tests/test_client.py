"""The client over real sockets: what a submit came to, and what is sent to whom."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.farend import (
    breaks_the_cipher,
    drops_after,
    far_end,
    hangs_after,
    raw,
    says,
    sends,
    trickles,
)
from wanbatch import client as client_module
from wanbatch.client import WanClient
from wanbatch.errors import BadAnswer, NeverSent, ProbeError, Refused, SubmitInDoubt, WanbatchError
from wanbatch.models import EditRequest, TaskStatus
from wanbatch.pace import SystemClock
from wanbatch.settings import Limits, Service
from wanbatch.wire import Accepted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.farend import Behaviour

KEY = "sk-test-0123456789"
TASK = "0385dc79-5ff8-4d82-bcb6-000000000001"
VIDEO = "https://media.example.com/v.mp4"
ACCEPTED = {"output": {"task_status": "PENDING", "task_id": TASK}, "request_id": "r-1"}
REFUSAL = {"code": "Throttling.RateQuota", "message": "Requests rate limit exceeded.", "request_id": "r-2"}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an authority that signed nothing here: the only one a client knows unless a test says otherwise."""
    path = tmp_path_factory.mktemp("authority") / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(autouse=True)
def _no_way_around(monkeypatch: pytest.MonkeyPatch, stranger: Path) -> None:
    """Let neither a proxy nor an authority of the machine matter."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(stranger))


def wait_only_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten every time limit."""
    for limit in ("_SUBMIT_S", "_QUERY_S", "_UPLOAD_S"):
        monkeypatch.setattr(client_module, limit, 0.3)


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[WanClient]:
    """Connect to a far end with a made-up key."""
    service = Service("test", url, limits=Limits(submit_rate=1000, query_rate=1000))
    client = WanClient(service, KEY, clock=SystemClock())
    try:
        yield client
    finally:
        await client.aclose()


async def submit(client: WanClient) -> Accepted:
    """Submit a small edit."""
    return await client.submit(EditRequest(video=VIDEO, prompt="clay"), [VIDEO])


async def outcome_at(url: str) -> object:
    """Submit once, and give what came of it."""
    async with client_of(url) as client:
        try:
            return await submit(client)
        except WanbatchError as error:
            return error


def free_port() -> int:
    """Find a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def authority(monkeypatch: pytest.MonkeyPatch, folder: Path, *, trusted: bool) -> trustme.CA:
    """Make a certificate authority that the client trusts, or does not."""
    ca = trustme.CA()
    if trusted:
        ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    return ca


def tls_of(ca: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    """Make a server's side of TLS with a certificate for a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


# ------------------------------------------------------------------------------------------ never arrived


async def test_a_refused_connection_never_carried_anything() -> None:
    """Where nobody listens, nothing was sent."""
    assert isinstance(await outcome_at(f"http://127.0.0.1:{free_port()}/api/v1"), NeverSent)


async def test_a_name_that_does_not_resolve_never_carried_anything() -> None:
    """Where there is no address, nothing was sent."""
    assert isinstance(await outcome_at("https://dashscope.invalid/api/v1"), NeverSent)


@pytest.mark.parametrize(("trusted", "name"), [(False, "127.0.0.1"), (True, "another.example.com")])
async def test_a_certificate_that_does_not_hold_stops_everything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, *, trusted: bool
) -> None:
    """A far end that can't prove who it is gets neither the request nor the key."""
    ca = authority(monkeypatch, tmp_path, trusted=trusted)
    async with far_end(says(ACCEPTED), tls=tls_of(ca, name)) as far:
        assert isinstance(await outcome_at(far.url("https")), NeverSent)
    assert far.requests == []


async def test_a_far_end_without_tls_stops_everything() -> None:
    """Where https is asked for and plain text comes, nothing was sent."""

    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw("400 Bad Request", b"plain text here"))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert isinstance(await outcome_at(f"https://127.0.0.1:{port}/api/v1"), NeverSent)
    server.close()


async def test_a_proxy_that_says_no_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that opens no tunnel has passed nothing on, and never sees the key."""
    async with far_end(sends(raw("403 Forbidden"))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert isinstance(await outcome_at("https://dashscope.invalid/api/v1"), NeverSent)
    assert [seen.method for seen in proxy.requests] == ["CONNECT"]
    assert KEY not in str(proxy.requests)


# ----------------------------------------------------------------------------------------- what came of it

WHOLE = json.dumps(ACCEPTED).encode()
OK = "200 OK"

OUTCOMES: dict[str, tuple[Behaviour, type, str | None]] = {
    "accepted": (says(ACCEPTED), Accepted, "r-1"),
    "refused": (says(REFUSAL, "429 Too Many Requests"), Refused, "r-2"),
    "dropped before any byte": (drops_after(), SubmitInDoubt, None),
    "dropped in the headers": (drops_after(b"HTTP/1.1 200 OK\r\ncontent-le"), SubmitInDoubt, None),
    "dropped after the headers": (
        drops_after(raw(OK, b"", 200, x_request_id="r-3")),
        SubmitInDoubt,
        "r-3",
    ),
    "a body cut short": (
        drops_after(raw(OK, WHOLE[:-9], len(WHOLE), x_request_id="r-3")),
        SubmitInDoubt,
        "r-3",
    ),
    "a whole body of a longer one": (drops_after(raw(OK, WHOLE, 9_999)), SubmitInDoubt, None),
    "silence": (hangs_after(), SubmitInDoubt, None),
    "silence after the headers": (
        hangs_after(raw(OK, b"", 200, x_request_id="r-3")),
        SubmitInDoubt,
        "r-3",
    ),
    "a trickle": (trickles(raw(OK, b"", 10_000, x_request_id="r-3")), SubmitInDoubt, "r-3"),
    "not HTTP": (drops_after(b"220 mail.example.com ESMTP\r\n"), SubmitInDoubt, None),
    "an error of the API": (
        says({"code": "InternalError", "message": "m", "request_id": "r-4"}, "500 Oh"),
        SubmitInDoubt,
        "r-4",
    ),
    "an error of a gateway": (sends(raw("502 Bad Gateway", b"<html>502</html>")), SubmitInDoubt, None),
    "a page": (sends(raw(OK, b"<html>log in to the wireless</html>")), SubmitInDoubt, None),
    "a page that says no": (sends(raw("403 Forbidden", b"<html>no</html>")), SubmitInDoubt, None),
    "no task_id": (says({"output": {"task_status": "PENDING"}, "request_id": "r-5"}), SubmitInDoubt, "r-5"),
    "an empty answer": (sends(raw("204 No Content")), SubmitInDoubt, None),
    "a body without end": (sends(raw(OK, b" " * (5 * 1024 * 1024) + WHOLE)), SubmitInDoubt, None),
    "gzip that is none": (sends(raw(OK, WHOLE, content_encoding="gzip")), SubmitInDoubt, None),
    "a length that is none": (
        drops_after(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n" + WHOLE),
        SubmitInDoubt,
        None,
    ),
    "text that no database keeps": (
        says({"code": "InvalidParameter", "message": "\ud800 \0", "request_id": "r"}, "400 No"),
        Refused,
        "r",
    ),
}
ENDLESS = {"silence", "silence after the headers", "a trickle"}


@pytest.mark.parametrize("case", OUTCOMES)
async def test_a_submit_is_sent_once_and_has_one_outcome(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Whatever the far end does, one POST arrives, its outcome is typed, and its request id is kept."""
    if case in ENDLESS:
        wait_only_briefly(monkeypatch)
    behaviour, expected, request_id = OUTCOMES[case]
    async with far_end(behaviour) as far:
        outcome = await outcome_at(far.url())
    assert type(outcome) is expected
    assert getattr(outcome, "request_id", None) == request_id
    if isinstance(outcome, WanbatchError):
        assert len(str(outcome).splitlines()) == 1
        assert KEY not in str(outcome)
    assert [(seen.method, seen.path) for seen in far.requests] == [
        ("POST", "/api/v1/services/aigc/video-generation/video-synthesis")
    ]
    assert far.connections == 1


async def test_a_submit_carries_the_key_and_the_edit() -> None:
    """The request is the edit, asked for asynchronously, in the name of the key."""
    async with far_end(says(ACCEPTED)) as far:
        assert await outcome_at(far.url()) == Accepted(TASK, "r-1")
    (seen,) = far.requests
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["x-dashscope-async"] == "enable"
    assert json.loads(seen.body)["input"] == {"prompt": "clay", "media": [{"type": "video", "url": VIDEO}]}


@pytest.mark.parametrize("status", ["301", "302", "303", "307", "308"])
@pytest.mark.parametrize("location", ["{other}", "/elsewhere", "mailto:x", "http://[", "//", "data:,x", ""])
async def test_a_redirect_is_never_followed(status: str, location: str) -> None:
    """Whoever redirects a submit may have acted on it: it is in doubt, and neither it nor the key goes on."""
    async with far_end(says(ACCEPTED)) as other:
        answer = sends(raw(f"{status} Moved", location=location.format(other=other.url())))
        async with far_end(answer) as far:
            assert isinstance(await outcome_at(far.url()), SubmitInDoubt)
    assert (len(far.requests), len(other.requests)) == (1, 0)


async def test_an_answer_over_tls_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A far end that proves who it is gets the request."""
    ca = authority(monkeypatch, tmp_path, trusted=True)
    async with far_end(says(ACCEPTED), tls=tls_of(ca)) as far:
        assert isinstance(await outcome_at(far.url("https")), Accepted)


@pytest.mark.parametrize("before", [b"", raw(OK, b"", 200)])
async def test_a_broken_cipher_comes_too_late_to_send_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: bytes
) -> None:
    """A TLS error after the handshake is a lost answer, not a lost request."""
    ca = authority(monkeypatch, tmp_path, trusted=True)
    async with far_end(breaks_the_cipher(before), tls=tls_of(ca)) as far:
        assert isinstance(await outcome_at(far.url("https")), SubmitInDoubt)
    assert len(far.requests) == 1


async def test_every_submit_opens_a_connection_of_its_own() -> None:
    """A kept connection may die under a POST, so submits share none; queries do."""
    report = {"output": {"task_id": TASK, "task_status": "RUNNING"}}
    async with (
        far_end(says(ACCEPTED), says(ACCEPTED), says(report)) as far,
        client_of(far.url()) as client,
    ):
        await submit(client)
        await submit(client)
        assert far.connections == 2
        await client.query(TASK)
        await client.query(TASK)
        assert far.connections == 3


def test_the_key_is_not_shown() -> None:
    """A client in a log names its service alone."""
    shown = repr(WanClient(Service("test", "http://127.0.0.1/api/v1"), KEY, clock=SystemClock()))
    assert "test" in shown
    assert KEY not in shown


# ------------------------------------------------------------------------------------- requests that are free

ASKS: dict[str, Callable[[WanClient], Awaitable[object]]] = {
    "query": lambda client: client.query(TASK),
    "tasks": lambda client: client.tasks(),
    "cancel": lambda client: client.cancel(TASK),
}
ANSWERS: dict[str, tuple[Behaviour, type[WanbatchError]]] = {
    "the API says no": (says(REFUSAL, "429 Too Many Requests", retry_after="7"), Refused),
    "the API is ill": (says(REFUSAL, "503 Unavailable", retry_after="7"), Refused),
    "a code with 200": (says(REFUSAL, retry_after="7"), Refused),
    "dropped": (drops_after(), BadAnswer),
    "cut short": (drops_after(raw(OK, b"{", 100)), BadAnswer),
    "silence": (hangs_after(), BadAnswer),
    "a gateway": (sends(raw("502 Bad Gateway", b"<html>")), BadAnswer),
    "a redirect": (sends(raw("302 Found", location="https://elsewhere.example.com")), BadAnswer),
    "a bad redirect": (sends(raw("302 Found", location="mailto:x")), BadAnswer),
    "no object": (says([]), BadAnswer),
    "gzip that is none": (sends(raw(OK, b"{}", content_encoding="gzip")), BadAnswer),
}


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_that_is_none_is_a_typed_error(
    monkeypatch: pytest.MonkeyPatch, ask: str, case: str
) -> None:
    """Whatever comes back instead of an answer is one clear error, and is asked once."""
    if case in ENDLESS:
        wait_only_briefly(monkeypatch)
    behaviour, expected = ANSWERS[case]
    async with far_end(behaviour) as far, client_of(far.url()) as client:
        with pytest.raises(expected) as caught:
            await ASKS[ask](client)
    assert type(caught.value) is expected
    assert len(str(caught.value).splitlines()) == 1
    assert len(far.requests) == 1
    if isinstance(caught.value, Refused):
        assert (caught.value.code, caught.value.retry_after_s) == ("Throttling.RateQuota", 7.0)


@pytest.mark.parametrize("ask", ASKS)
async def test_a_question_to_nobody_is_never_sent(ask: str) -> None:
    """Where nobody listens, a question ends as one that was never sent."""
    async with client_of(f"http://127.0.0.1:{free_port()}/api/v1") as client:
        with pytest.raises(NeverSent):
            await ASKS[ask](client)


async def test_a_task_id_stays_one_part_of_the_path() -> None:
    """An id that looks like a path or a query is asked for as an id."""
    async with far_end(says({"request_id": "r"})) as far, client_of(far.url()) as client:
        await client.cancel("../x?y=1#z")
    assert far.requests[0].path == "/api/v1/tasks/..%2Fx%3Fy%3D1%23z/cancel"


async def test_the_date_of_every_answer_sets_the_services_clock() -> None:
    """The service's time is what its last `Date` said; what is not a date says nothing."""
    refused = says(REFUSAL, "429 No", date="Sun, 22 Nov 2026 10:00:00 GMT")
    async with far_end(refused, says(REFUSAL, "429 No", date="soon")) as far, client_of(far.url()) as client:
        assert client.clock.last_seen is None
        for _ in range(2):
            with pytest.raises(Refused):
                await submit(client)
            assert client.clock.last_seen == datetime(2026, 11, 22, 10, tzinfo=UTC)


# ------------------------------------------------------------------------------------------------- the list


def page(first: int, last: int, total: int | None, pages: int | None) -> Behaviour:
    """Answer with a page of the task list."""
    rows = [{"task_id": f"task-{number}", "status": "PENDING"} for number in range(first, last + 1)]
    return says({"total": total, "total_page": pages, "data": rows})


LISTS: dict[str, tuple[list[Behaviour], int, bool]] = {
    "none": ([page(1, 0, 0, 0)], 0, True),
    "one page": ([page(1, 3, 3, 1)], 3, True),
    "three pages": ([page(1, 50, 120, 3), page(51, 100, 120, 3), page(101, 120, 120, 3)], 120, True),
    "pages that overlap": ([page(1, 50, 70, 2), page(40, 70, 70, 2)], 70, True),
    "a task too few": ([page(1, 50, 70, 2), page(51, 69, 70, 2)], 69, False),
    "an empty page too early": ([page(1, 50, 120, 3), page(1, 0, 120, 3)], 50, False),
    "a total that moved": ([page(1, 50, 100, 2), page(52, 100, 99, 2)], 99, False),
    "no total": ([page(1, 3, None, 1)], 3, False),
    "no number of pages": ([page(1, 50, 70, None)], 50, False),
}


@pytest.mark.parametrize("case", LISTS)
async def test_a_list_knows_whether_it_is_complete(case: str) -> None:
    """A list is complete when every task came that every page spoke of; only then does it prove absence."""
    pages, number, complete = LISTS[case]
    async with far_end(*pages) as far, client_of(far.url()) as client:
        listing = await client.tasks()
    assert (len(listing.tasks), listing.complete) == (number, complete)
    assert len(far.requests) == len(pages)


async def test_a_list_asks_for_this_model_page_by_page() -> None:
    """Every page is asked for by its number, of this model, in the wanted state."""
    async with far_end(page(1, 1, 2, 2), page(2, 2, 2, 2)) as far, client_of(far.url()) as client:
        await client.tasks(status=TaskStatus.PENDING)
    first, second = (seen.path for seen in far.requests)
    assert first.startswith("/api/v1/tasks/?page_no=1&")
    assert second.startswith("/api/v1/tasks/?page_no=2&")
    assert first.endswith("&model_name=wan2.7-videoedit&status=PENDING")


async def test_a_list_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that always has another page is not asked for ever, and its list proves nothing."""
    monkeypatch.setattr(client_module, "_PAGES_LIMIT", 4)
    async with far_end(page(1, 50, 9_999, 200)) as far, client_of(far.url()) as client:
        assert not (await client.tasks()).complete
    assert len(far.requests) == 4


# ------------------------------------------------------------------------------------------------- uploads


def policy(host: str) -> Behaviour:
    """Answer with the credential of an upload."""
    return says(
        {
            "request_id": "r",
            "data": {
                "policy": "p",
                "signature": "s",
                "upload_dir": "dashscope-instant/x",
                "upload_host": host,
                "oss_access_key_id": "k",
                "x_oss_object_acl": "private",
                "x_oss_forbid_overwrite": "true",
            },
        }
    )


CLIP = bytes(range(256)) * 1024


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Give a file to upload."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(CLIP)
    return path


async def test_an_upload_is_a_form_with_the_file_last(clip: Path) -> None:
    """The store gets the credential's fields, then the file, whole, and never the key."""
    async with (
        far_end(sends(raw(OK))) as store,
        far_end(policy(f"http://127.0.0.1:{store.port}")) as far,
        client_of(far.url()) as client,
    ):
        assert await client.upload(clip, "a.mp4") == "oss://dashscope-instant/x/a.mp4"
    (asked,), (put,) = far.requests, store.requests
    assert asked.path == "/api/v1/uploads?action=getPolicy&model=wan2.7-videoedit"
    boundary = put.headers["content-type"].partition("boundary=")[2].encode()
    parts = put.body.split(b"--" + boundary)[1:-1]
    names = [part.partition(b'name="')[2].partition(b'"')[0].decode() for part in parts]
    assert names[-1] == "file"
    assert set(names) == {
        *("OSSAccessKeyId", "Signature", "policy", "key", "success_action_status"),
        *("x-oss-object-acl", "x-oss-forbid-overwrite", "file"),
    }
    assert parts[-1].partition(b"\r\n\r\n")[2] == CLIP + b"\r\n"
    assert "authorization" not in put.headers
    assert KEY.encode() not in put.body


@pytest.mark.parametrize(
    "store",
    [
        sends(raw("403 Forbidden", b"<Error/>")),
        sends(raw("302 Found", location="http://127.0.0.1:1/")),
        sends(raw("302 Found", location="mailto:x")),
        drops_after(),
        hangs_after(),
    ],
)
async def test_an_upload_that_fails_is_a_typed_error(
    monkeypatch: pytest.MonkeyPatch, clip: Path, store: Behaviour
) -> None:
    """A store that does not answer 200 has not got the file."""
    monkeypatch.setattr(client_module, "_UPLOAD_S", 0.3)
    async with (
        far_end(store) as there,
        far_end(policy(f"http://127.0.0.1:{there.port}")) as far,
        client_of(far.url()) as client,
    ):
        with pytest.raises(BadAnswer, match="clip"):
            await client.upload(clip, "a.mp4")
    assert len(there.requests) == 1


@pytest.mark.parametrize("host", ["", "not a url", "http://[", "ftp://x", "http://127.0.0.1:99999"])
async def test_a_store_that_is_no_address_is_a_typed_error(clip: Path, host: str) -> None:
    """The address in a credential is untrusted."""
    async with far_end(policy(host)) as far, client_of(far.url()) as client:
        with pytest.raises(BadAnswer):
            await client.upload(clip, "a.mp4")


async def test_an_endless_answer_of_the_store_is_not_read(clip: Path) -> None:
    """What the store says beyond its status is of no use, and can't fill the memory."""
    async with (
        far_end(trickles(raw(OK, b"", 10**12))) as store,
        far_end(policy(f"http://127.0.0.1:{store.port}")) as far,
        client_of(far.url()) as client,
    ):
        assert await client.upload(clip, "a.mp4") == "oss://dashscope-instant/x/a.mp4"


async def test_a_file_that_is_gone_is_a_typed_error(tmp_path: Path) -> None:
    """A file that can't be read is named, and nothing is sent to the store."""
    async with (
        far_end(sends(raw(OK))) as store,
        far_end(policy(f"http://127.0.0.1:{store.port}")) as far,
        client_of(far.url()) as client,
    ):
        with pytest.raises(ProbeError, match="gone"):
            await client.upload(tmp_path / "gone.mp4", "a.mp4")
    assert store.requests == []
