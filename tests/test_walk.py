"""Rows on their way from manifest to ledger, with everything that can go wrong on it; without Prefect."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from tests.conftest import Account, emulated, options, point_to, write_manifest
from wanbatch import walk
from wanbatch.errors import AccountStopped, ClaimLost, ExitCode, ManifestError, NeverSent, Parked, UsageError
from wanbatch.journal import Attempt, Journal, State
from wanbatch.ledger import Ledger
from wanbatch.manifest import read_manifest
from wanbatch.opening import open_session
from wanbatch.options import RunOptions
from wanbatch.pace import SystemClock
from wanbatch.session import Session, Work
from wanbatch.steps import Submission, submit
from wanbatch.summary import Summary, summarise

pytestmark = pytest.mark.timeout(90)


async def edit(asked: RunOptions) -> Summary:
    """Run the whole walk once."""
    async with open_session(asked) as session:
        await walk.edit_videos(session, walk.Steps())
        return await summarise(session)


def attempts(folder: Path) -> list[dict[str, Any]]:
    """Give the ledger's rows in manifest order."""
    rows: list[dict[str, Any]] = Ledger(folder / "ledger").read_attempts().to_pylist()
    return sorted(rows, key=lambda row: (row["row"], row["attempt"]))


def books_agree(folder: Path, account: Account) -> None:
    """Hold the ledger against the account's own bill, task by task."""
    ours = {
        row["task_id"]: (row["billed_s"], row["cost"])
        for row in attempts(folder)
        if row["status"] == "succeeded"
    }
    theirs = {row["task_id"]: (Decimal(row["billed_s"]), Decimal(row["cost"])) for row in account.bill()}
    assert ours == theirs
    for row in attempts(folder):
        assert row["status"] != "succeeded" or (folder / row["output"]).stat().st_size == row["output_bytes"]


def files(folder: Path) -> bytes:
    """Give the bytes of every file below a folder."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_every_row_is_edited_once(tmp_path: Path, account: Account) -> None:
    """Each row becomes one paid task, one video and one ledger row; a second run finds nothing to do."""
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 12, tag_team="red"))
    first = await edit(asked)
    assert first.exit_code is ExitCode.OK
    assert (first.counts, len(account.bill())) == ({"submitted": 12, "succeeded": 12}, 12)
    books_agree(tmp_path, account)
    assert first.cost == account.billed()
    assert {dict(row["tags"])["team"] for row in attempts(tmp_path)} == {"red"}
    second = await edit(asked)
    assert (second.exit_code, second.counts) == (ExitCode.OK, {"done_before": 12})
    assert len(account.get("tasks")["tasks"]) == 12
    assert (
        pd.read_parquet(tmp_path / "ledger" / "attempts").groupby("status").cost.sum()["succeeded"]
        == first.cost
    )


async def test_the_window_keeps_to_the_slots(tmp_path: Path, account: Account) -> None:
    """Never more than the slots and two ahead are at the service at once."""
    await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 20)))
    created = sorted(
        (moment, change)
        for task in account.get("tasks")["tasks"]
        for moment, change in ((task["submitted_at"], 1), (task["ended_at"], -1))
    )
    at_once, most = 0, 0
    for _, change in created:
        at_once += change
        most = max(most, at_once)
    assert most <= 7
    assert account.get("limits")["running"] == 5


@pytest.mark.parametrize(
    "kind",
    [
        "accept-then-drop",
        "accept-then-drop-headers",
        "accept-then-5xx",
        "accept-then-5xx-html",
        "cut-body",
        "no-task-id",
    ],
)
async def test_a_lost_answer_is_found_again(tmp_path: Path, account: Account, kind: str) -> None:
    """A submit whose answer is lost is found through the list and never sent again."""
    account.faults({"kind": kind, "nth": 2})
    summary = await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 4)))
    assert summary.exit_code is ExitCode.OK
    assert len(account.get("tasks")["tasks"]) == 4
    books_agree(tmp_path, account)
    assert [row["adopted"] for row in attempts(tmp_path)].count(True) == 1


@pytest.mark.parametrize("kind", ["drop-before-accept", "5xx", "gateway-html"])
async def test_a_submit_that_made_nothing_is_proved_so_and_sent_again(
    tmp_path: Path, account: Account, kind: str
) -> None:
    """When the list proves that nothing was made, the item is sent again as a new attempt."""
    account.faults({"kind": kind, "nth": 1})
    summary = await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 3)))
    assert summary.exit_code is ExitCode.OK
    assert Counter(row["status"] for row in attempts(tmp_path)) == {"succeeded": 3, "not_created": 1}
    assert len(account.get("tasks")["tasks"]) == 3
    books_agree(tmp_path, account)


class SleepyClock(SystemClock):
    """The clock of a machine that can be put to sleep."""

    slept = timedelta(0)

    def now(self) -> datetime:
        """Tell the time."""
        return super().now() + self.slept


async def test_a_machine_that_slept_looks_again_before_it_submits(
    tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sleeps between the intent and the POST asks the journal anew: another run may have taken over."""
    clock, sent, asked_again = SleepyClock(), Journal.sent, list[Attempt]()

    def falls_asleep(journal: Journal, attempt: Attempt, **more: Any) -> Attempt:
        clock.slept += timedelta(hours=1) if not clock.slept else timedelta(0)
        return sent(journal, attempt, **more)

    def unsent(_journal: Journal, attempt: Attempt) -> Attempt:
        asked_again.append(attempt)
        if account.get("tasks")["tasks"]:
            raise AssertionError("it was sent before anybody looked")
        raise ClaimLost("taken over")

    monkeypatch.setattr(Journal, "sent", falls_asleep)
    monkeypatch.setattr(Journal, "unsent", unsent)
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 1))
    async with open_session(asked, clock=clock) as session:
        await walk.edit_videos(session, walk.Steps())
    assert (len(asked_again), account.get("tasks")["tasks"]) == (1, [])


async def test_a_machine_that_slept_while_it_connected_does_not_submit(
    tmp_path: Path, account: Account
) -> None:
    """What another run did while the connection was made is not done again."""
    clock, asked = SleepyClock(), options(tmp_path, write_manifest(tmp_path / "m.csv", 1))

    class Network(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "POST" and not clock.slept:
                clock.slept = timedelta(hours=1)
                async with open_session(asked, clock=clock) as other:
                    await walk.edit_videos(other, walk.Steps())
                    await summarise(other)
            return await super().handle_async_request(request)

    async with open_session(asked, clock=clock, transport=Network()) as session:
        await walk.edit_videos(session, walk.Steps())
        await summarise(session)
    assert len(account.get("tasks")["tasks"]) == 1
    books_agree(tmp_path, account)


async def test_strangers_are_never_adopted(tmp_path: Path, account: Account) -> None:
    """Other people's tasks in the same minutes stay theirs."""
    account.faults({"kind": "drop-before-accept", "nth": 2})
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 3))
    running = asyncio.create_task(edit(asked))
    await asyncio.sleep(0.3)
    account.post("strangers", {"prompt": "something else", "seconds": "4.00", "count": 3})
    summary = await running
    ours = {row["task_id"] for row in attempts(tmp_path) if row["task_id"]}
    strangers = {
        task["task_id"] for task in account.get("tasks")["tasks"] if task["prompt"] == "something else"
    }
    assert summary.exit_code is ExitCode.OK
    assert len(strangers) == 3
    assert ours.isdisjoint(strangers)


async def test_without_a_list_a_doubt_is_parked(tmp_path: Path, account: Account) -> None:
    """Where the service has no task list, a lost answer is left to a person, and the others go on."""
    account.faults({"kind": "accept-then-drop", "nth": 1}, {"kind": "list-absent"})
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 3))
    summary = await edit(asked)
    assert summary.exit_code is ExitCode.PARKED
    assert [attempt.item.name for attempt in summary.parked] == ["clip-0001"]
    assert summary.parked[0].reserved is not None
    again = await edit(asked)
    assert again.exit_code is ExitCode.PARKED
    assert len(account.get("tasks")["tasks"]) == 3


async def test_a_doubt_is_not_parked_for_the_troubles_of_an_earlier_one(
    tmp_path: Path, account: Account
) -> None:
    """Where the list was gone and is back, one bad answer of it parks nothing."""
    manifest = write_manifest(tmp_path / "m.csv", 2)
    first, second = read_manifest(manifest)
    async with open_session(options(tmp_path, manifest)) as session:
        account.faults({"kind": "accept-then-drop"}, {"kind": "list-absent"})
        with pytest.raises(Parked):
            await submit(session, Work(first, session.window.occupy(), 1))
        account.faults({"kind": "accept-then-drop"}, {"kind": "5xx", "on": "list", "count": 1})
        found = await submit(session, Work(second, session.window.occupy(), 1))
    assert found.task_id in {task["task_id"] for task in account.get("tasks")["tasks"]}


async def test_a_service_fault_gets_a_new_attempt_and_moderation_does_not(
    tmp_path: Path, account: Account
) -> None:
    """What the service broke is tried again up to the cap; what it will not do is not."""
    account.faults(
        {
            "kind": "fail",
            "code": "InternalError",
            "message": "An internal error has occured.",
            "prompt": "clay 1",
        },
        {
            "kind": "fail",
            "code": "DataInspectionFailed",
            "message": "Output data may contain …",
            "prompt": "clay 2",
        },
    )
    summary = await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 2)))
    assert summary.exit_code is ExitCode.SOME_FAILED
    codes = Counter((row["id"], row["code"]) for row in attempts(tmp_path))
    assert codes == {("clip-0001", "InternalError"): 3, ("clip-0002", "DataInspectionFailed"): 1}
    assert summary.cost == 0


@pytest.mark.parametrize("kind", ["result-break", "result-corrupt"])
async def test_a_bad_download_is_fetched_again(tmp_path: Path, account: Account, kind: str) -> None:
    """A result that breaks off or comes damaged is fetched again and never made again."""
    account.faults({"kind": kind, "nth": 1})
    summary = await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 2)))
    assert summary.exit_code is ExitCode.OK
    assert len(account.bill()) == 2
    assert not list((tmp_path / "videos").glob("*.part"))


async def test_an_account_that_refuses_ends_the_run(tmp_path: Path, account: Account) -> None:
    """The first refusal of the account itself stops everything, and says so."""
    account.faults(
        {"kind": "refuse", "code": "Arrearage", "message": "Access denied, overdue.", "status": 400}
    )
    summary = await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 30)))
    assert summary.exit_code is ExitCode.ACCOUNT_STOPPED
    assert account.get("tasks")["tasks"] == []
    journal = Journal.open(tmp_path / "ledger" / "journal.db")
    assert journal.open_attempts() == []


async def test_the_budget_is_never_passed(tmp_path: Path, account: Account) -> None:
    """Worst costs are reserved before each submit; what is in flight finishes, and the rest waits."""
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 30), budget="20")
    summary = await edit(asked)
    assert summary.exit_code is ExitCode.INCOMPLETE
    assert summary.cost is not None
    assert Decimal(16) < summary.cost <= 20
    assert "budget" in str(summary.reason)
    books_agree(tmp_path, account)


async def test_a_monthly_budget_counts_what_earlier_runs_spent(tmp_path: Path, account: Account) -> None:
    """A budget per month is held over all runs of the journal together."""
    manifest = write_manifest(tmp_path / "m.csv", 30)
    await edit(options(tmp_path, manifest, limit=10))
    await edit(options(tmp_path, manifest, budget="15/month"))
    assert account.billed() <= 15


async def test_a_run_time_leaves_what_is_in_flight_for_the_next_run(tmp_path: Path) -> None:
    """When the time is over the run ends at once, and the next one fetches what was paid."""
    with pytest.MonkeyPatch.context() as patch, emulated(speed=60) as account:
        point_to(account, patch)
        manifest = write_manifest(tmp_path / "m.csv", 6)
        stopped = await edit(options(tmp_path, manifest, max_runtime="1s"))
        assert stopped.exit_code is ExitCode.INCOMPLETE
        assert stopped.counts["left_open"] >= 1
        finished = await edit(options(tmp_path, manifest))
        assert finished.exit_code is ExitCode.OK
        assert len(account.get("tasks")["tasks"]) == 6
        books_agree(tmp_path, account)


async def test_what_is_wrong_is_found_before_anything_is_submitted(
    tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad row, a missing or wrong key, an address that does not answer: one clear error each, and no task."""
    manifest = write_manifest(tmp_path / "m.csv", 2)
    bad = tmp_path / "bad.csv"
    bad.write_text("video,duration\nhttps://x/v.mp4,11\n")
    with pytest.raises(ManifestError):
        await edit(options(tmp_path, bad))
    with pytest.raises(UsageError, match="--rate-card"):
        await edit(options(tmp_path, manifest, service=account.url, budget="5"))
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-wrong")
    with pytest.raises(
        AccountStopped, match=r"^InvalidApiKey .*provided; give a valid API key of the same region"
    ):
        await edit(options(tmp_path, manifest))
    monkeypatch.delenv("DASHSCOPE_API_KEY")
    with pytest.raises(UsageError, match="DASHSCOPE_API_KEY"):
        await edit(options(tmp_path, manifest))
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-emulator")
    monkeypatch.setenv("DASHSCOPE_HTTP_BASE_URL", "http://127.0.0.1:9/api/v1")
    with pytest.raises(NeverSent, match="nothing was submitted"):
        await edit(options(tmp_path, manifest))
    assert account.get("tasks")["tasks"] == []


async def test_a_service_without_prices_keeps_its_seconds(tmp_path: Path, account: Account) -> None:
    """A service given as a URL has no rate card: its cost is unknown, its billed seconds are kept."""
    summary = await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 3), service=account.url))
    assert summary.exit_code is ExitCode.OK
    assert (summary.cost, summary.unknown_cost) == (None, 3)
    assert summary.billed_s == sum(Decimal(row["billed_s"]) for row in account.bill())
    assert {row["cost"] for row in attempts(tmp_path)} == {None}


async def test_an_expired_result_is_a_reported_loss(tmp_path: Path) -> None:
    """A result that is gone after 24 hours is paid, expired and said to be a loss."""
    with pytest.MonkeyPatch.context() as patch, emulated(speed=60) as account:
        point_to(account, patch)
        asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 1))
        account.faults({"kind": "result-expired"})
        running = asyncio.create_task(edit(asked))
        await asyncio.sleep(0.3)
        journal = Journal.open(tmp_path / "ledger" / "journal.db")
        while not journal.open_attempts(State.SUCCEEDED):  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(0.1)
        account.post("clock", {"advance": 26 * 3600})
        summary = await running
        (row,) = attempts(tmp_path)
        assert (row["status"], row["cost"]) == ("expired", account.billed())
        assert (summary.lost, summary.exit_code) == (1, ExitCode.SOME_FAILED)


@pytest.mark.usefixtures("account")
async def test_secrets_stay_out_of_everything_that_is_kept(tmp_path: Path) -> None:
    """Neither the key nor any signature is in the journal, the ledger or the summary."""
    manifest = tmp_path / "m.csv"
    url = "https://media.example.com/v.mp4?seconds=4.00&Expires=99&OSSAccessKeyId=LTAIsecret&Signature=s3cr3tsig"
    manifest.write_text(f"video,prompt\n{url},clay\n{url.replace('v.mp4', 'w.mp4')},forbidden\n")
    summary = await edit(options(tmp_path, manifest))
    assert summary.exit_code is ExitCode.SOME_FAILED
    manifest.unlink()
    kept = files(tmp_path) + json.dumps([str(row) for row in attempts(tmp_path)]).encode()
    for secret in (b"s3cr3tsig", b"LTAIsecret", b"sk-emulator", b"OSSAccessKeyId=emulator"):
        assert secret not in kept


async def test_a_state_that_was_stored_is_only_recorded(tmp_path: Path, account: Account) -> None:
    """An attempt that was stored before a crash is settled without another request about it."""
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 1))

    class Crash(BaseException):
        pass

    async def crash(*_args: object) -> None:
        raise Crash

    with pytest.raises((Crash, BaseExceptionGroup)):
        async with open_session(asked) as session:
            await walk.edit_videos(session, walk.Steps(record=crash))
    journal = Journal.open(tmp_path / "ledger" / "journal.db")
    (attempt,) = journal.open_attempts()
    assert attempt.state is State.STORED
    assert (await edit(asked)).exit_code is ExitCode.OK
    books_agree(tmp_path, account)


async def test_a_bill_far_beyond_the_input_is_flagged(tmp_path: Path, account: Account) -> None:
    """When the service bills what the probed input can't explain, the row says so."""
    manifest = tmp_path / "m.csv"
    manifest.write_text("video,prompt\nhttps://media.example.com/v.mp4?seconds=9.00,clay\n")
    async with open_session(options(tmp_path, manifest)) as session:

        async def claim_short(session: Session, work: Work) -> Submission:
            submission = await submit(session, work)
            with sqlite3.connect(tmp_path / "ledger" / "journal.db") as db:
                db.execute("UPDATE attempts SET input_s = 2000000")  # as if the probe had found two seconds
            return submission

        await walk.edit_videos(session, walk.Steps(submit=claim_short))
        await summarise(session)
    (row,) = attempts(tmp_path)
    assert (row["status"], row["code"], row["cost"]) == ("succeeded", "UsageUnexpected", account.billed())
    assert "billed 18" in row["message"]
