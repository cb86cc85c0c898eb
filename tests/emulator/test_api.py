"""The public API over HTTP: shapes, keys, lists, cancels, rates, and the emulator's own console."""

import re
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from .kit import KEY, MODEL, SUBMIT, SUBMIT_HEADERS, Client, body, sample, shape

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
SLOW: dict[str, Any] = {"submit_rate": 0, "query_rate": 0}


async def test_every_answer_has_the_published_shape() -> None:
    """Create, query in every state, list and cancel look like the samples, key by key and type by type."""
    client = Client(slots=1, **SLOW)
    created = await client.submit()
    assert created.headers["content-type"] == "application/json"
    assert shape(created.json()) == shape(sample("emulator_created"))
    running = created.json()["output"]["task_id"]
    pending = await client.accept()
    doomed = await client.accept(body("forbidden"))
    cancelled = await client.accept()
    assert shape(await client.task(running)) == shape(sample("emulator_task_running"))
    assert shape(await client.task(pending)) == shape(sample("emulator_task_pending"))
    assert shape((await client.cancel(cancelled)).json()) == shape(sample("emulator_cancelled"))
    client.advance(900)
    assert shape(await client.task(running)) == shape(sample("emulator_task_succeeded"))
    failed, expected = await client.task(doomed), sample("emulator_task_failed")
    assert shape(failed) == shape(expected)
    assert failed["output"]["message"] == expected["output"]["message"]
    assert shape(await client.task("nobody")) == shape(sample("emulator_task_unknown"))
    assert shape((await client.get("tasks", task_id=running)).json()) == shape(sample("emulator_list"))


async def test_a_success_shows_times_in_china_and_exact_seconds() -> None:
    """Times are UTC+8 strings, durations plain two-decimal literals, ids version-4 UUIDs."""
    client = Client(mean_run_s=188, min_run_s=188, max_run_s=188)
    created = await client.submit()
    client.advance(188)
    response = await client.get(f"tasks/{created.json()['output']['task_id']}")
    output = response.json()["output"]
    assert output["submit_time"] == output["scheduled_time"] == "2026-04-03 00:08:03.576"
    assert output["end_time"] == "2026-04-03 00:11:11.576"
    assert '"duration": 10.04, "input_video_duration": 5.02, "output_video_duration": 5.02' in response.text
    assert response.json()["usage"]["SR"] == 720
    for name in (output["task_id"], response.json()["request_id"], created.json()["request_id"]):
        assert UUID.fullmatch(name)
    assert response.json()["request_id"] != created.json()["request_id"]


async def test_a_shorter_edit_bills_the_whole_input_unless_told_otherwise() -> None:
    """Truncation bills input 5.02 s plus output 3 s, or 3 s twice when so configured."""
    for settings, billed in (({}, 8.02), ({"bill_truncated_input": True}, 6.0)):
        client = Client(**settings)
        answer = await client.finish(await client.accept(body(duration=3)))
        assert answer["usage"]["output_video_duration"] == 3
        assert answer["usage"]["duration"] == billed


async def test_a_drawn_length_depends_on_the_address_and_the_seed_alone() -> None:
    """The same address is always as long, whatever its query; another seed draws anew."""
    lengths = []
    for seed, url in (
        (1, "https://a.example/x.mp4"),
        (1, "https://a.example/x.mp4?Signature=s"),
        (2, "https://a.example/x.mp4"),
    ):
        client = Client(seed=seed)
        await client.accept(body(url="https://a.example/other.mp4"))
        answer = await client.finish(await client.accept(body(url=url)))
        lengths.append(answer["usage"]["input_video_duration"])
    assert lengths[0] == lengths[1] != lengths[2]
    assert all(2 <= length <= 10 for length in lengths)


@pytest.mark.parametrize(
    ("headers", "status", "code", "message"),
    [
        ({}, 401, "InvalidApiKey", "No API-key provided."),
        ({"Authorization": "Basic x"}, 401, "InvalidApiKey", "No API-key provided."),
        ({"Authorization": "Bearer sk-other"}, 401, "InvalidApiKey", "Invalid API-key provided."),
        ({**SUBMIT_HEADERS, "X-DashScope-WorkSpace": "ws-other"}, 401, "NOT AUTHORIZED", "workspace"),
        (KEY, 403, "AccessDenied", "current user api does not support synchronous calls."),
        ({**KEY, "X-DashScope-Async": "disable"}, 403, "AccessDenied", "synchronous"),
        ({**SUBMIT_HEADERS, "Content-Type": "text/plain"}, 400, "InvalidParameter", "Content-Type"),
    ],
    ids=str,
)
async def test_who_may_submit(headers: dict[str, str], status: int, code: str, message: str) -> None:
    """Key, workspace, the async header and the content type are checked, in the documented words."""
    client = Client()
    response = await client.http.post(SUBMIT, json=body(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert message in response.json()["message"]
    assert shape(response.json()) == shape(sample("emulator_error"))


async def test_every_call_needs_the_key() -> None:
    """Query, list, cancel and upload credentials are 401 without it."""
    client = Client()
    for method, path in (
        ("GET", "tasks/x"),
        ("GET", "tasks"),
        ("POST", "tasks/x/cancel"),
        ("GET", "uploads"),
    ):
        response = await client.http.request(method, f"/api/v1/{path}")
        assert (response.status_code, response.json()["code"]) == (401, "InvalidApiKey")


async def test_slashes_charsets_and_unknown_parameters_do_no_harm() -> None:
    """A trailing slash, a charset, the known workspace and stray parameters are let pass."""
    client = Client()
    headers = {
        **SUBMIT_HEADERS,
        "Content-Type": "application/json; charset=utf-8",
        "X-DashScope-WorkSpace": "ws-emulator",
    }
    created = await client.http.post(SUBMIT + "/", json=body(), headers=headers, params={"x": "y"})
    task_id = created.json()["output"]["task_id"]
    assert (await client.get(f"tasks/{task_id}/", resolution="720P")).json()["output"]["task_id"] == task_id
    assert (await client.get("tasks/", api_key_id="", region="")).json()["total"] == 1
    response = await client.http.post(
        f"/api/v1/tasks/{task_id}/cancel/", json={"model": "", "input": ""}, headers=KEY
    )
    assert response.json()["code"] == "UnsupportedOperation"


async def test_unknown_paths_and_methods_answer_in_json() -> None:
    """Even there the SDK can read the error."""
    client = Client()
    missing, wrong = await client.get("nothing"), await client.http.get(SUBMIT, headers=KEY)
    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert shape(missing.json()) == shape(wrong.json()) == shape(sample("emulator_error"))


async def test_cancelling_is_for_what_waits() -> None:
    """PENDING answers with a request id alone; RUNNING, cancelled and unknown tasks are HTTP 400."""
    client = Client(slots=1)
    running, waiting = await client.accept(), await client.accept()
    assert (await client.cancel(waiting)).status_code == 200
    assert await client.status(waiting) == "CANCELED"
    for task_id in (running, waiting, "nobody"):
        response = await client.cancel(task_id)
        assert response.status_code == 400
        expected = sample("emulator_cancel_refused")
        assert (response.json()["code"], response.json()["message"]) == (
            expected["code"],
            expected["message"],
        )


async def test_the_rates_are_counted_per_second_and_operation() -> None:
    """The sixth submit and the 21st query, list or cancel of a second are 429; a second later all is well."""
    client = Client()
    codes = [(await client.submit()).status_code for _ in range(6)]
    assert codes == [200] * 5 + [429]
    refused = await client.submit()
    assert refused.json()["code"] == "Throttling.RateQuota"
    assert refused.json()["message"] == "Requests rate limit exceeded, please try again later."
    for path in ("tasks/x", "tasks"):
        codes = [(await client.get(path)).status_code for _ in range(21)]
        assert codes == [200] * 20 + [429]
    assert [(await client.cancel("x")).status_code for _ in range(21)] == [400] * 20 + [429]
    peaks = (await client.http.get("/_emulator/limits")).json()
    assert peaks["submit_per_second"] == 7
    assert peaks["query_per_second"] == peaks["list_per_second"] == peaks["cancel_per_second"] == 21
    assert peaks["running"] == 5
    client.advance(0.999)
    assert (await client.submit()).status_code == 429
    client.advance(0.001)
    assert (await client.submit()).status_code == 200


async def test_the_list_shows_submits_by_their_request_id() -> None:
    """A row's request id and creation time are the submit's: how a lost answer is found again."""
    client = Client()
    created = (await client.submit()).json()
    (row,) = (await client.get("tasks", model_name=MODEL)).json()["data"]
    assert row["request_id"] == created["request_id"]
    assert row["task_id"] == created["output"]["task_id"]
    assert row["gmt_create"] == row["start_time"] == 1775146083576
    assert "end_time" not in row
    assert row["user_api_unique_key"].endswith(f":{MODEL}")


async def test_the_list_is_paged_newest_first() -> None:
    """Ten rows a page unless asked otherwise, a hundred at most; totals count everything."""
    client = Client(**SLOW)
    for number in range(25):
        client.advance(1)
        await client.accept(body(f"edit {number}"))
    first = (await client.get("tasks")).json()
    assert (first["total"], first["total_page"], first["page_no"], first["page_size"]) == (25, 3, 1, 10)
    pages = [
        (await client.get("tasks", page_no=number, page_size=10)).json()["data"] for number in (1, 2, 3, 4)
    ]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    created = [row["gmt_create"] for page in pages for row in page]
    assert created == sorted(created, reverse=True)
    assert (await client.get("tasks", page_size=1000)).json()["page_size"] == 100


async def test_the_list_filters() -> None:
    """By task, model and status; an unknown status is refused."""
    client = Client(slots=1)
    running, _ = await client.accept(), await client.accept()
    assert (await client.get("tasks", status="PENDING")).json()["total"] == 1
    assert (await client.get("tasks", task_id=running)).json()["data"][0]["status"] == "RUNNING"
    assert (await client.get("tasks", model_name="other")).json()["total"] == 0
    assert (await client.get("tasks", status="DONE")).status_code == 400


@pytest.mark.parametrize(
    ("parameters", "total"),
    [
        ({}, 2),
        ({"start_time": "20260403000803", "end_time": "20260403000803"}, 1),
        ({"start_time": "20260403000804"}, 1),
        ({"end_time": "20260403000804"}, 1),
        ({"start_time": "20260402000802"}, 0),
        ({"start_time": "20260403000000", "end_time": "20260404000000"}, 2),
    ],
    ids=str,
)
async def test_the_lists_window(parameters: dict[str, str], total: int) -> None:
    """Both ends in UTC+8 and inclusive; one end alone spans 24 hours; none is the last 24 hours."""
    client = Client()
    await client.accept()
    client.advance(3600)
    await client.accept()
    assert (await client.get("tasks", **parameters)).json()["total"] == total


@pytest.mark.parametrize(
    "parameters",
    [
        {"start_time": "20260401000000", "end_time": "20260402000001"},
        {"start_time": "20260402000000", "end_time": "20260401000000"},
        {"start_time": "2026-04-01 00:00:00"},
        {"end_time": "202604011"},
        {"page_no": "0"},
        {"page_no": "x"},
        {"page_size": "-1"},
        {"page_size": "9" * 5000},
    ],
    ids=lambda parameters: str(parameters)[:40],
)
async def test_a_list_call_that_makes_no_sense_is_refused(parameters: dict[str, str]) -> None:
    """Windows over 24 hours, other time formats and odd pages are HTTP 400."""
    response = await Client().get("tasks", **parameters)
    assert (response.status_code, response.json()["code"]) == (400, "InvalidParameter")


async def test_a_day_after_its_end_a_task_is_unknown() -> None:
    """UNKNOWN is HTTP 200, and the list forgets the task too."""
    client = Client(mean_run_s=100, min_run_s=100, max_run_s=100)
    task_id = await client.accept()
    client.advance(100 + 24 * 3600)
    assert await client.status(task_id) == "UNKNOWN"
    assert (await client.get("tasks", task_id=task_id)).json()["total"] == 0


async def test_every_reply_is_dated_by_the_emulators_clock() -> None:
    """Date follows the emulated time, on errors too."""
    client = Client()
    client.advance(3600)
    for response in (await client.get("tasks"), await client.get("nothing"), await client.submit([])):  # type: ignore[arg-type]  # a bad body
        assert parsedate_to_datetime(response.headers["date"]).isoformat() == "2026-04-02T17:08:03+00:00"


async def test_the_console_shows_the_bill_in_json_and_csv() -> None:
    """Both give the same exact rows; the totals are their sum."""
    client = Client()
    for level in ("720P", "1080P"):
        await client.accept(body(resolution=level))
    client.advance(300)
    answer = (await client.http.get("/_emulator/bill")).json()
    assert [(row["billed_s"], row["unit_price"], row["cost"]) for row in answer["rows"]] in (
        [("10.04", "0.10", "1.0040"), ("10.04", "0.15", "1.5060")],
        [("10.04", "0.15", "1.5060"), ("10.04", "0.10", "1.0040")],
    )
    assert answer["totals"] == {"tasks": 2, "billed_s": "20.08", "cost": "2.5100", "currency": "USD"}
    lines = (await client.http.get("/_emulator/bill", params={"format": "csv"})).text.splitlines()
    assert lines[0].split(",") == list(answer["rows"][0])
    assert lines[1].split(",") == list(answer["rows"][0].values())


async def test_the_console_sets_the_clock_and_forgets() -> None:
    """The clock advances by request; a reset leaves no tasks, no bill, no peaks."""
    client = Client()
    await client.accept()
    answer = await client.http.post("/_emulator/clock", json={"advance": 300.5})
    assert answer.json() == {"now": "2026-04-02T16:13:04.076Z", "speed": 0}
    assert (await client.http.get("/_emulator/clock")).json() == answer.json()
    assert (await client.http.get("/_emulator/bill")).json()["totals"]["tasks"] == 1
    await client.http.post("/_emulator/reset")
    assert (await client.http.get("/_emulator/bill")).json()["totals"]["tasks"] == 0
    assert (await client.http.get("/_emulator/tasks")).json() == {"tasks": []}
    assert (await client.http.get("/_emulator/limits")).json()["submit_per_second"] == 0


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"advance": -1}', '{"advance": "NaN"}', '{"advance": 1e99}', "{}"]
)
async def test_the_clock_takes_only_sensible_steps(content: str) -> None:
    """Anything but a number of seconds ahead is HTTP 400."""
    response = await Client().http.post("/_emulator/clock", content=content)
    assert response.status_code == 400


async def test_strangers_come_past_the_submit_limit() -> None:
    """Another client's tasks are listed and billed like anybody's, with the prompt and length given."""
    client = Client()
    order = {"count": 12, "prompt": "make it claymation", "seconds": 5.02}
    task_ids = (await client.http.post("/_emulator/strangers", json=order)).json()["task_ids"]
    assert (await client.get("tasks")).json()["total"] == 12
    client.advance(900)
    answer = await client.task(task_ids[0])
    assert (answer["output"]["orig_prompt"], answer["usage"]["duration"]) == ("make it claymation", 10.04)
    assert {row["who"] for row in client.world.state.bill.rows()} == {"stranger"}
    assert (await client.submit()).status_code == 200
    for bad in ({"count": 0}, {"seconds": 1}, {"resolution": "4K"}, {"count": "many"}):
        assert (await client.http.post("/_emulator/strangers", json=bad)).status_code == 400


async def test_the_console_shows_what_was_asked() -> None:
    """Every task with its prompt, addresses and parameters."""
    client = Client()
    await client.accept(body("a prompt", ratio="1:1", seed=7))
    (task,) = (await client.http.get("/_emulator/tasks")).json()["tasks"]
    assert (task["who"], task["status"], task["prompt"]) == ("client", "RUNNING", "a prompt")
    assert (task["parameters"]["ratio"], task["parameters"]["seed"]) == ("1:1", 7)
