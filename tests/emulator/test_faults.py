"""Fault rules: how they are written, when they strike, and what each kind does to a client."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanbatch.emulator import Emulator, EmulatorConfig, Fault, FaultError, parse_fault, read_faults, running
from wanbatch.emulator.faults import KINDS, Faults, Subject

from .kit import SUBMIT_HEADERS, Client, body

SUBMIT = "/services/aigc/video-generation/video-synthesis"


def strikes(rule: str, calls: int, seed: int = 0, subject: Subject | None = None) -> list[int]:
    """Give the numbers of the submits that a rule strikes."""
    fault = parse_fault(rule)
    faults = Faults(seed)
    faults.replace([fault])
    subject = subject or Subject()
    return [n for n in range(1, calls + 1) if faults.strike(fault.phase, fault.on, subject)]


def test_when_a_rule_strikes() -> None:
    """Always, on the nth call, on every nth, and never more often than its count."""
    assert strikes("5xx", 3) == [1, 2, 3]
    assert strikes("5xx:nth=2", 5) == [2]
    assert strikes("5xx:every=2", 5) == [2, 4]
    assert strikes("5xx:every=2,count=1", 5) == [2]
    assert strikes("5xx:p=0", 50) == []
    assert 20 < len(strikes("5xx:p=0.3", 100)) < 40


@given(st.integers(0, 1000), st.integers(1, 50))
def test_a_rule_is_deaf_to_other_traffic(seed: int, noise: int) -> None:
    """The same seed strikes the same calls, however many others come in between."""
    quiet = strikes("5xx:p=0.5,prompt=fox", 20, seed, Subject("a fox"))
    faults = Faults(seed)
    faults.replace([parse_fault("5xx:p=0.5,prompt=fox")])
    heard = []
    for number in range(1, 21):
        for _ in range(noise):
            assert faults.strike("before", "submit", Subject("a hound")) is None
            assert faults.strike("before", "query", Subject("a fox")) is None
        if faults.strike("before", "submit", Subject("a fox")):
            heard.append(number)
    assert heard == quiet


def test_a_rule_can_choose_by_prompt_and_address() -> None:
    """Only edits whose prompt or input address holds the text are struck."""
    fox = Subject("a fox", ("https://a.example/fox.mp4",))
    assert strikes("fail:prompt=fox", 1, subject=fox)
    assert strikes("fail:url=fox.mp4", 1, subject=fox)
    assert not strikes("fail:prompt=hound", 1, subject=fox)
    assert not strikes("fail:url=hound", 1, subject=fox)


@given(
    st.builds(
        Fault,
        kind=st.sampled_from(sorted(KINDS)),
        p=st.none() | st.floats(0, 1),
        nth=st.none() | st.integers(1, 99),
        count=st.none() | st.integers(1, 99),
        prompt=st.none() | st.text(max_size=5),
        status=st.none() | st.integers(200, 599),
    )
)
def test_a_rule_survives_json(fault: Fault) -> None:
    """What a rule shows of itself is what it is read from."""
    faults = Faults(0)
    faults.replace([fault])
    (shown,) = faults.describe()
    del shown["calls"], shown["strikes"]
    assert read_faults(json.dumps([shown])) == (fault,)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "5xx:p",
        "5xx:p=2",
        "5xx:nth=0",
        "5xx:every=x",
        "5xx:colour=red",
        "5xx:on=nowhere",
        "5xx:status=99",
    ],
)
def test_a_rule_that_cannot_be_understood_says_why(text: str) -> None:
    """On the command line and in JSON alike, one sentence."""
    with pytest.raises(FaultError):
        parse_fault(text)
    with pytest.raises(FaultError):
        read_faults(json.dumps([text]))


@pytest.mark.parametrize("text", ["{", "{}", "[5]", '[{"p": 1}]'])
def test_rules_are_a_list_of_objects(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(FaultError):
        read_faults(text)


async def test_rules_are_switched_over_http() -> None:
    """PUT replaces, GET shows the counts, DELETE ends; a bad rule changes nothing."""
    client = Client()
    put = await client.http.put(
        "/_emulator/faults", json=["5xx:count=1", {"kind": "fail", "code": "RewriteFailed"}]
    )
    assert [rule["kind"] for rule in put.json()["faults"]] == ["5xx", "fail"]
    assert (await client.submit()).status_code == 500
    shown = (await client.http.get("/_emulator/faults")).json()["faults"][0]
    assert (shown["calls"], shown["strikes"]) == (1, 1)
    bad = await client.http.put("/_emulator/faults", json=["nonsense"])
    assert bad.status_code == 400
    assert "unknown fault kind" in bad.json()["message"]
    assert len((await client.http.get("/_emulator/faults")).json()["faults"]) == 2
    assert (await client.http.delete("/_emulator/faults")).json() == {"faults": []}


# Over a real port: what a rule does to the connection.


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """Serve an emulator whose clock stands still."""
    async with running(EmulatorConfig(speed=0, render=False, submit_rate=0, query_rate=0)) as served:
        yield served


async def submit(emulator: Emulator, *, wait: float = 5) -> httpx.Response:
    """Submit over a fresh connection."""
    async with httpx.AsyncClient(timeout=wait, trust_env=False) as client:
        return await client.post(emulator.url + SUBMIT, json=body(), headers=SUBMIT_HEADERS)


def rules(emulator: Emulator, *texts: str) -> None:
    """Put rules in force."""
    emulator.faults.replace(map(parse_fault, texts))


@pytest.mark.parametrize(
    ("rule", "error", "accepted"),
    [
        ("drop-before-accept", httpx.RemoteProtocolError, 0),
        ("accept-then-drop", httpx.RemoteProtocolError, 1),
        ("accept-then-drop-headers", httpx.RemoteProtocolError, 1),
        ("cut-body", httpx.RemoteProtocolError, 1),
        ("hang-before-accept", httpx.ReadTimeout, 0),
        ("accept-then-hang", httpx.ReadTimeout, 1),
        ("accept-then-hang:seconds=0.05", httpx.RemoteProtocolError, 1),
    ],
)
async def test_a_connection_breaks(
    emulator: Emulator, rule: str, error: type[Exception], accepted: int
) -> None:
    """The client sees a broken or silent connection; whether a task exists depends on the kind alone."""
    rules(emulator, rule)
    with pytest.raises(error):
        await submit(emulator, wait=0.3)
    assert len(emulator.state.tasks()) == accepted


@pytest.mark.parametrize("rule", ["drop-before-accept", "accept-then-drop"])
async def test_a_dropped_connection_carried_not_one_byte(emulator: Emulator, rule: str) -> None:
    """The socket closes without any reply."""
    rules(emulator, rule)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(emulator.origin.rpartition(":")[2]))
    content = json.dumps(body()).encode()
    headers = {
        **SUBMIT_HEADERS,
        "Host": "x",
        "Content-Type": "application/json",
        "Content-Length": len(content),
    }
    lines = [
        f"POST /api/v1{SUBMIT} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    writer.write("\r\n".join(lines).encode() + content)
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    ("rule", "status", "code", "accepted"),
    [
        ("5xx", 500, "InternalError", 0),
        ("5xx:status=503,code=ModelUnavailable", 503, "ModelUnavailable", 0),
        ("accept-then-5xx", 500, "InternalError", 1),
        ("accept-then-5xx:status=504,code=RequestTimeOut", 504, "RequestTimeOut", 1),
        ("refuse", 400, "Arrearage", 0),
        ("refuse:code=AllocationQuota.FreeTierOnly", 403, "AllocationQuota.FreeTierOnly", 0),
        ("refuse:code=PostpaidBillOverdue", 429, "PostpaidBillOverdue", 0),
        ("refuse:code=Throttling.AllocationQuota", 429, "Throttling.AllocationQuota", 0),
        ("refuse:code=Throttling.AllocationQuota,status=400", 400, "Throttling.AllocationQuota", 0),
        ("throttle-rate", 429, "Throttling.RateQuota", 0),
        ("throttle-concurrency", 429, "Throttling", 0),
        ("throttle-burst", 429, "Throttling.BurstRate", 0),
    ],
)
async def test_a_refusal_in_the_apis_words(rule: str, status: int, code: str, accepted: int) -> None:
    """Status, code and a message in JSON; `accept-then-` kinds have made the task all the same."""
    client = Client(faults=(parse_fault(rule),))
    response = await client.submit()
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["message"]
    assert "retry-after" not in response.headers
    assert len(client.world.state.tasks()) == accepted


@pytest.mark.parametrize("kind", ["throttle-rate", "throttle-concurrency", "throttle-burst"])
async def test_throttling_can_say_when_to_come_back(kind: str) -> None:
    """Retry-After is sent verbatim when the rule has one."""
    client = Client(faults=(parse_fault(f"{kind}:retry_after=7"),))
    assert (await client.submit()).headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("rule", "status", "accepted"),
    [("gateway-html", 502, 0), ("gateway-html:status=200", 200, 0), ("accept-then-5xx-html", 502, 1)],
)
async def test_a_gateway_speaks_html(rule: str, status: int, accepted: int) -> None:
    """A page instead of JSON, whatever its status."""
    client = Client(faults=(parse_fault(rule),))
    response = await client.submit()
    assert (response.status_code, response.headers["content-type"].partition(";")[0]) == (status, "text/html")
    assert len(client.world.state.tasks()) == accepted


async def test_an_acceptance_may_come_unreadable() -> None:
    """Half a JSON text in a whole reply, or JSON without the task's id: the task exists."""
    client = Client(faults=(parse_fault("garbled-body:nth=1"), parse_fault("no-task-id:nth=2")))
    with pytest.raises(json.JSONDecodeError):
        (await client.submit()).json()
    assert (await client.submit()).json()["output"] == {"task_status": "PENDING"}
    assert len(client.world.state.tasks()) == 2


@pytest.mark.parametrize(
    ("rule", "output"),
    [
        ("fail", {"code": "InternalError.Algo", "message": "inference internal error."}),
        (
            "fail:code=RewriteFailed",
            {"code": "RewriteFailed", "message": "Failed to rewrite content for prompt."},
        ),
        ("fail:code=InvalidParameter,message=The size is odd", {"message": "The size is odd"}),
        ("fail:code=SomethingNew", {"code": "SomethingNew", "message": "SomethingNew"}),
    ],
)
async def test_a_task_fails_as_told(rule: str, output: dict[str, str]) -> None:
    """Any code and message, at no cost."""
    client = Client(faults=(parse_fault(rule),))
    answer = await client.finish(await client.accept())
    assert answer["output"]["task_status"] == "FAILED"
    assert answer["output"].items() >= output.items()
    assert client.world.state.bill.rows() == []


async def test_a_task_fails_without_a_word() -> None:
    """FAILED with neither code nor message."""
    client = Client(faults=(parse_fault("fail-without-code"),))
    output = (await client.finish(await client.accept()))["output"]
    assert output["task_status"] == "FAILED"
    assert not {"code", "message"} & output.keys()


@pytest.mark.parametrize(
    ("rule", "status"), [("running-for-ever", "RUNNING"), ("pending-for-ever", "PENDING")]
)
async def test_a_task_never_ends(rule: str, status: str) -> None:
    """Hours later it is still where it was."""
    client = Client(faults=(parse_fault(rule),))
    task_id = await client.accept()
    client.advance(23 * 3600)
    assert await client.status(task_id) == status


async def test_a_task_that_never_starts_can_be_cancelled() -> None:
    """PENDING for ever is PENDING."""
    client = Client(faults=(parse_fault("pending-for-ever"),))
    task_id = await client.accept()
    assert (await client.cancel(task_id)).status_code == 200
    assert await client.status(task_id) == "CANCELED"


async def test_a_task_is_unknown_before_its_time() -> None:
    """UNKNOWN after the rule's seconds, gone from the list, and on the bill in the end."""
    client = Client(faults=(parse_fault("unknown-early:seconds=30"),))
    task_id = await client.accept()
    assert await client.status(task_id) == "RUNNING"
    client.advance(30)
    assert await client.status(task_id) == "UNKNOWN"
    assert (await client.get("tasks")).json()["total"] == 0
    client.advance(300)
    assert len(client.world.state.bill.rows()) == 1


async def test_sr_may_be_a_string() -> None:
    """By rule or for all tasks."""
    for settings in ({"faults": (parse_fault("sr-as-string"),)}, {"sr_as_string": True}):
        client = Client(**settings)
        assert (await client.finish(await client.accept()))["usage"]["SR"] == "720"


async def result(*texts: str, **headers: str) -> tuple[httpx.Response, httpx.Response]:
    """Download a result over a port: as it is, and under the rules."""
    async with running(EmulatorConfig(speed=0, render=False)) as emulator:
        task_id = (await submit(emulator)).json()["output"]["task_id"]
        emulator.clock.advance(300)
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{emulator.url}/tasks/{task_id}", headers=SUBMIT_HEADERS)
            url = answer.json()["output"]["video_url"]
            whole = await client.get(url)
            rules(emulator, *texts)
            return whole, await client.get(url, headers=headers)


async def test_a_result_breaks_off() -> None:
    """The connection closes before the promised length."""
    with pytest.raises(httpx.RemoteProtocolError):
        await result("result-break")


async def test_a_result_arrives_corrupted() -> None:
    """As long as promised, under the true checksums, one byte wrong."""
    whole, spoiled = await result("result-corrupt")
    assert len(spoiled.content) == len(whole.content)
    assert sum(a != b for a, b in zip(whole.content, spoiled.content, strict=True)) == 1
    assert spoiled.headers["x-oss-hash-crc64ecma"] == whole.headers["x-oss-hash-crc64ecma"]


async def test_a_result_trickles() -> None:
    """Slow, and whole in the end."""
    whole, slow = await result("result-slow:rate=20000")
    assert slow.content == whole.content


async def test_a_range_is_ignored() -> None:
    """200 and the whole object, even to a range in the standard manner."""
    whole, ignored = await result(
        "result-ignore-range", range="bytes=10-19", **{"x-oss-range-behavior": "standard"}
    )
    assert (ignored.status_code, ignored.content) == (200, whole.content)


async def test_a_result_has_expired_already() -> None:
    """The store's 403 in XML."""
    _, refused = await result("result-expired")
    assert refused.status_code == 403
    assert "<Message>Request has expired.</Message>" in refused.text


async def test_the_result_host_may_refuse_too() -> None:
    """An HTTP fault on the result host speaks the store's XML."""
    _, refused = await result("5xx:on=result,status=503")
    assert (refused.status_code, refused.headers["content-type"].partition(";")[0]) == (
        503,
        "application/xml",
    )


@pytest.mark.parametrize(
    ("rule", "status"), [("list-absent", 404), ("list-absent:status=403,code=AccessDenied", 403)]
)
async def test_the_list_is_not_offered(rule: str, status: int) -> None:
    """Some accounts have no list: 404 or 403, while the query works."""
    client = Client(faults=(parse_fault(rule),))
    task_id = await client.accept()
    assert (await client.get("tasks")).status_code == status
    assert await client.status(task_id) == "RUNNING"


async def test_a_page_is_incomplete() -> None:
    """Half of the rows are missing, while the total counts all."""
    client = Client(faults=(parse_fault("list-incomplete"),))
    for _ in range(4):
        await client.accept()
    answer = (await client.get("tasks")).json()
    assert (answer["total"], len(answer["data"])) == (4, 2)


async def test_the_list_lags_behind() -> None:
    """A new task shows only after the rule's seconds."""
    client = Client(faults=(parse_fault("list-delay:seconds=30"),))
    await client.accept()
    client.advance(29)
    assert (await client.get("tasks")).json()["total"] == 0
    client.advance(1)
    assert (await client.get("tasks")).json()["total"] == 1


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ("throttle-rate:on=query", 429),
        ("5xx:on=query", 500),
        ("gateway-html:on=query", 502),
        ("5xx:on=list", 500),
    ],
)
async def test_queries_fail_too(rule: str, status: int) -> None:
    """HTTP faults strike whatever operation the rule names, and leave the others alone."""
    client = Client(faults=(parse_fault(rule),))
    task_id = await client.accept()
    path = "tasks" if "list" in rule else f"tasks/{task_id}"
    assert (await client.get(path)).status_code == status


async def test_a_query_is_dropped_and_a_cancel_takes_effect_unseen(emulator: Emulator) -> None:
    """The connection breaks on a query; a cancel whose answer is lost has cancelled."""
    rules(emulator, "drop-before-accept:on=query", "accept-then-drop:on=cancel", "pending-for-ever")
    task_id = (await submit(emulator)).json()["output"]["task_id"]
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"{emulator.url}/tasks/{task_id}", headers=SUBMIT_HEADERS)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(f"{emulator.url}/tasks/{task_id}/cancel", headers=SUBMIT_HEADERS)
    assert [task.status for task in emulator.state.tasks()] == ["CANCELED"]


async def test_in_process_clients_see_a_drop_as_their_own_error() -> None:
    """Without a socket to close, the drop is raised as httpx would report it."""
    client = Client(faults=(parse_fault("accept-then-drop"),))
    with pytest.raises(httpx.RemoteProtocolError):
        await client.submit()
    assert len(client.world.state.tasks()) == 1


def test_every_kind_of_fault_is_tried_above() -> None:
    """No kind exists that these tests do not name."""
    source: Any = open(__file__, encoding="utf-8").read()  # noqa: SIM115, PTH123  a test may read itself
    assert [kind for kind in KINDS if f'"{kind}' not in source] == []
