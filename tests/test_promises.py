"""Ways in which a promise was once broken, each kept from coming back."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from tests.conftest import Account, options, write_manifest
from tests.test_walk import attempts, books_agree, edit
from wanbatch.emulator.render import tiny_clip
from wanbatch.errors import ExitCode, JournalError
from wanbatch.journal import Attempt, Journal
from wanbatch.manifest import read_manifest
from wanbatch.models import TaskReport, TaskStatus, Usage
from wanbatch.watch import Watcher

pytestmark = pytest.mark.timeout(90)


@pytest.mark.parametrize("limit", [1, 3])
async def test_a_limit_submits_that_many(tmp_path: Path, account: Account, limit: int) -> None:
    """`--limit` submits exactly so many new edits, and running again goes on."""
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 6), limit=limit)
    summary = await edit(asked)
    assert summary.exit_code is ExitCode.INCOMPLETE
    assert len(account.get("tasks")["tasks"]) == limit
    assert "limit" in str(summary.reason)
    await edit(asked)
    assert len(account.get("tasks")["tasks"]) == 2 * limit


async def test_what_a_crash_left_unsent_is_under_the_next_runs_budget(
    tmp_path: Path, account: Account
) -> None:
    """An attempt that was intended and never sent is claimed anew: under the budget, and from the manifest."""
    manifest = write_manifest(tmp_path / "m.csv", 3)
    journal = Journal.open(tmp_path / "ledger" / "journal.db")
    journal.begin_run("crashed", service="emulator", manifest=str(manifest))
    for item in read_manifest(manifest):
        journal.claim("crashed", item, service="emulator", manifest=str(manifest), number=1)
    journal.end_run("crashed")
    stopped = await edit(options(tmp_path, manifest, budget="0.01"))
    assert stopped.exit_code is ExitCode.INCOMPLETE
    assert account.get("tasks")["tasks"] == []
    assert (await edit(options(tmp_path, manifest))).exit_code is ExitCode.OK
    books_agree(tmp_path, account)


def local_manifest(folder: Path, rows: int) -> Path:
    """Write a manifest of local clips."""
    for number in range(rows):
        tiny_clip(Decimal(3) + number, folder / f"{number}.mp4")
    lines = [f"{number}.mp4,clay" for number in range(rows)]
    (folder / "m.csv").write_text("\n".join(["video,prompt", *lines]) + "\n")
    return folder / "m.csv"


async def test_a_local_file_that_changes_is_never_paid_under_its_old_name(
    tmp_path: Path, account: Account
) -> None:
    """A file changed between claim and upload is another edit: its row is refused, and edited by the next run."""
    manifest = local_manifest(tmp_path, 1)
    account.faults({"kind": "throttle-rate", "on": "policy", "nth": 1, "retry_after": 1})
    running = asyncio.create_task(edit(options(tmp_path, manifest)))
    await asyncio.sleep(0.4)
    tiny_clip(Decimal(5), tmp_path / "0.mp4")
    await running
    await edit(options(tmp_path, manifest))
    assert len(account.bill()) <= 2
    assert len({row["key"] for row in attempts(tmp_path) if row["status"] == "succeeded"}) == len(
        account.bill()
    )
    books_agree(tmp_path, account)


async def test_a_refused_upload_is_no_end_of_a_row(tmp_path: Path, account: Account) -> None:
    """An account that is refused when it uploads ends the run as it does at a submit, and the rows stay open."""
    manifest = local_manifest(tmp_path, 2)
    account.faults({"kind": "refuse", "on": "policy", "code": "Arrearage"})
    assert (await edit(options(tmp_path, manifest))).exit_code is ExitCode.ACCOUNT_STOPPED
    account.faults()
    assert (await edit(options(tmp_path, manifest))).exit_code is ExitCode.OK
    assert len(account.bill()) == 2


def test_what_was_counted_once_is_not_forgotten(tmp_path: Path) -> None:
    """A later answer without usage does not take back what an earlier one said was billed."""
    journal = Journal.open(tmp_path / "journal.db")
    journal.begin_run("run", service="emulator", manifest="m.csv")
    (item,) = read_manifest(write_manifest(tmp_path / "m.csv", 1))
    claimed = journal.claim("run", item, service="emulator", manifest="m.csv", number=1)
    accepted = journal.accepted(journal.sent(claimed, service_time=None), task_id="t", request_id=None)
    told = TaskReport(task_id="t", status=TaskStatus.SUCCEEDED, usage=Usage(billed_s=Decimal("4.74")))
    counted = journal.succeeded(accepted, told)
    journal.succeeded(counted, TaskReport(task_id="t", status=TaskStatus.SUCCEEDED))
    assert journal.get(item.key, 1).billed_s == Decimal("4.74")


@pytest.mark.usefixtures("account")
async def test_a_helper_that_dies_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the watcher stops the run and says so; nobody waits for it for ever."""

    async def fault(_self: Watcher) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(Watcher, "_poll", fault)
    summary = await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 3)))
    assert summary.exit_code is ExitCode.BUG
    assert "fault of wanbatch" in str(summary.reason)


async def test_a_journal_error_on_one_attempt_hangs_nobody(
    tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When an acceptance can't be written down the run ends, and the next one finds the task again."""
    really = Journal.accepted

    def full_once(*_: object, **__: object) -> Attempt:
        monkeypatch.setattr(Journal, "accepted", really)
        raise JournalError("journal.db: database or disk is full")

    monkeypatch.setattr(Journal, "accepted", full_once)
    manifest = write_manifest(tmp_path / "m.csv", 4)
    stopped = await edit(options(tmp_path, manifest))
    assert stopped.exit_code is ExitCode.INCOMPLETE
    assert (await edit(options(tmp_path, manifest))).exit_code is ExitCode.OK
    assert len(account.get("tasks")["tasks"]) == 4
    books_agree(tmp_path, account)
