"""Trouble around a run: signals, disks, damaged journals, a network that goes away, people who decide."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import RUN, WANBATCH, Account, emulated, environment, options, point_to, write_manifest
from tests.test_flow import prefect_server, serving_prefect
from tests.test_walk import attempts, books_agree, edit
from wanbatch import walk
from wanbatch.errors import ExitCode, JournalError, LedgerError, StorageError, UsageError
from wanbatch.journal import Journal, State
from wanbatch.opening import open_session
from wanbatch.options import parse_duration
from wanbatch.pace import SystemClock
from wanbatch.settings import KEY_VARIABLE
from wanbatch.summary import summarise

__all__ = ["prefect_server"]

pytestmark = pytest.mark.timeout(120)


def wanbatch(folder: Path, *words: str, account: Account | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command that needs no Prefect."""
    settings = environment(account, folder / "prefect") if account else dict(os.environ)
    return subprocess.run(
        [str(WANBATCH), *words],
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# ------------------------------------------------------------------------------------------------ signals


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.xdist_group("prefect")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_in_good_order(
    tmp_path: Path, prefect_server: str, number: signal.Signals
) -> None:
    """The first signal stops new submits and closes the books; running again fetches what is left, paying nothing."""
    with emulated(speed=60) as account:
        write_manifest(tmp_path / "m.csv", 12)
        settings = environment(account, tmp_path / "prefect") | {"PREFECT_API_URL": prefect_server}
        running = subprocess.Popen(
            RUN, cwd=tmp_path, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        while len(account.bill()) < 2:
            assert running.poll() is None
            time.sleep(0.1)
        running.send_signal(number)
        told = running.communicate(timeout=60)[0]
        assert running.returncode == ExitCode.INCOMPLETE, told
        assert "Run it again to go on" in told
        assert "Traceback" not in told
        again = subprocess.run(RUN, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stdout + again.stderr
        assert len(account.get("tasks")["tasks"]) == 12
        books_agree(tmp_path, account)


def start_walk(folder: Path, account: Account) -> subprocess.Popen[str]:
    """Start the walk over `m.csv` in a process of its own."""
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.conftest import options\n"
        "from tests.test_walk import edit\n"
        "asyncio.run(edit(options(Path(sys.argv[1]), Path(sys.argv[1]) / 'm.csv')))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        env=environment(account, folder / "prefect"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_a_second_signal_ends_a_run_at_once(tmp_path: Path) -> None:
    """Insisting ends everything where it stands; the journal has it, and the next run goes on."""
    with pytest.MonkeyPatch.context() as patch, emulated(speed=60) as account:
        point_to(account, patch)
        write_manifest(tmp_path / "m.csv", 6)
        account.faults({"kind": "result-slow", "rate": 100})
        running = start_walk(tmp_path, account)
        while not account.bill():
            assert running.poll() is None
            time.sleep(0.05)
        time.sleep(1)
        running.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert running.poll() is None, "a slow download is not finished yet"
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) != 0
        account.faults()
        summary = asyncio.run(edit(options(tmp_path, tmp_path / "m.csv")))
        assert summary.exit_code is ExitCode.OK
        assert len(account.get("tasks")["tasks"]) == 6


# -------------------------------------------------------------------------------------------------- disks


@pytest.mark.usefixtures("account")
async def test_a_folder_that_cannot_be_written_is_found_first(tmp_path: Path) -> None:
    """A ledger or videos folder that is a file is found before anything is submitted."""
    manifest = write_manifest(tmp_path / "m.csv", 1)
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="file"):
        await edit(options(tmp_path, manifest, ledger=str(tmp_path / "file" / "ledger")))
    with pytest.raises(StorageError, match="file"):
        await edit(options(tmp_path, manifest, videos=str(tmp_path / "file" / "videos")))


def full_disk(folder: Path, account: Account, limit: int) -> subprocess.CompletedProcess[str]:
    """Run the walk in a process whose files may not grow past a limit, as on a disk that is full."""
    code = (
        "import asyncio, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.conftest import options\n"
        "from tests.test_walk import edit\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "summary = asyncio.run(edit(options(Path(sys.argv[1]), Path(sys.argv[1]) / 'm.csv')))\n"
        "print(summary.reason)\n"
        "sys.exit(summary.exit_code)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env=environment(account, folder / "prefect"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_full_disk_stops_the_spending_and_loses_nothing(tmp_path: Path, account: Account) -> None:
    """When a video can't be stored, nothing new is submitted, and the next run fetches what was paid."""
    write_manifest(tmp_path / "m.csv", 20)
    # Big enough for the journal's pages, too small for a video once it is preallocated with this much before it.
    (tmp_path / "videos").mkdir()
    ran = full_disk(tmp_path, account, 400_000)
    if ran.returncode == 0:
        pytest.fail("the limit did not bite")
    assert "Traceback" not in ran.stderr or "JournalError" in ran.stderr, ran.stderr
    made = len(account.get("tasks")["tasks"])
    assert made < 20
    finished = asyncio.run(edit(options(tmp_path, tmp_path / "m.csv")))
    assert finished.exit_code is ExitCode.OK
    assert len(account.get("tasks")["tasks"]) == 20
    books_agree(tmp_path, account)


async def test_another_video_of_the_same_name_is_kept(tmp_path: Path, account: Account) -> None:
    """A file of yours, or of an earlier edit with the same id, is never replaced."""
    manifest = write_manifest(tmp_path / "m.csv", 1)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "clip-0001.mp4").write_bytes(b"mine")
    await edit(options(tmp_path, manifest))
    manifest.write_text(manifest.read_text().replace("like clay", "like glass"))
    await edit(options(tmp_path, manifest))
    assert (tmp_path / "videos" / "clip-0001.mp4").read_bytes() == b"mine"
    assert len({row["output"] for row in attempts(tmp_path)}) == 2
    books_agree(tmp_path, account)


# ------------------------------------------------------------------------------------------ what people write


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("8h", 28_800), ("1h30m", 5_400), ("1.5d", 129_600)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """One number is seconds; several have a unit each."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1h30", "8 h", "-1h", "1w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A unit that was left out is not guessed: `1h30` is not half a minute over an hour."""
    with pytest.raises(UsageError, match="no duration"):
        parse_duration(text)


def test_a_check_says_how_much_it_does_not_show(tmp_path: Path) -> None:
    """The table of problems is bounded, and says so."""
    (tmp_path / "m.csv").write_text("video\n" + "ftp://h/a.mp4\n" * 10_002)
    told = wanbatch(tmp_path, "check", "m.csv")
    assert told.returncode == ExitCode.USAGE
    assert "10,002 problems" in told.stdout
    assert "more are not shown" in told.stdout


# ---------------------------------------------------------------------------------------------- the journal


@pytest.mark.usefixtures("account")
async def test_a_damaged_journal_is_said_so_and_rebuilt(tmp_path: Path) -> None:
    """A damaged journal stops before anything is paid; restoring from the ledger skips all that is settled."""
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 4))
    await edit(asked)
    path = tmp_path / "ledger" / "journal.db"
    for extra in path.parent.glob("journal.db-*"):
        extra.unlink()
    whole = bytearray(path.read_bytes())
    whole[4096:] = os.urandom(len(whole) - 4096)
    path.write_bytes(whole)
    with pytest.raises(JournalError, match="restore"):
        await edit(asked)
    path.rename(tmp_path / "damaged.db")
    told = wanbatch(tmp_path, "restore")
    assert told.returncode == 0, told.stderr
    assert "4 settled attempts are back" in told.stdout
    summary = await edit(asked)
    assert summary.counts == {"done_before": 4}


@pytest.mark.usefixtures("account")
async def test_a_ledger_without_its_journal_is_not_paid_for_again(tmp_path: Path) -> None:
    """Beside a ledger an empty journal starts nothing; restored from it, it knows what is paid."""
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 4))
    await edit(asked)
    for path in (tmp_path / "ledger").glob("journal.db*"):
        path.rename(tmp_path / path.name)
    for other in (asked, options(tmp_path, tmp_path / "m.csv", journal=str(tmp_path / "other.db"))):
        with pytest.raises(JournalError, match=r"is empty, and .*attempts is not.*wanbatch restore"):
            await edit(other)
    assert wanbatch(tmp_path, "restore").returncode == 0
    assert (await edit(asked)).counts == {"done_before": 4}
    again = wanbatch(tmp_path, "restore")
    assert (again.returncode, "there is a journal here" in again.stderr) == (ExitCode.USAGE, True)


async def edit_with_a_journal_that_breaks(folder: Path) -> None:
    """Run the walk, and take the journal's table away under it."""
    async with open_session(options(folder, write_manifest(folder / "m.csv", 6))) as session:
        with sqlite3.connect(folder / "ledger" / "journal.db") as db:
            db.execute("ALTER TABLE attempts RENAME TO gone")
        await walk.edit_videos(session, walk.Steps())
        assert session.stopped is not None
        await summarise(session)


async def test_a_journal_that_goes_bad_in_mid_run_ends_it_in_one_line(
    tmp_path: Path, account: Account
) -> None:
    """When the journal can't be written any more nothing is submitted, and the error is one line, not a trace."""
    with pytest.raises(JournalError) as caught:
        await edit_with_a_journal_that_breaks(tmp_path)
    assert "\n" not in str(caught.value)
    assert account.get("tasks")["tasks"] == []


async def test_a_locked_journal_is_waited_for_and_then_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: Account
) -> None:
    """A journal that another program keeps locked gives one clear line."""
    monkeypatch.setattr("wanbatch.journal.schema._BUSY_MS", 200)
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 1))
    await edit(asked)
    holder = sqlite3.connect(tmp_path / "ledger" / "journal.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="locked"):
        await edit(asked)
    holder.execute("ROLLBACK")
    assert len(account.get("tasks")["tasks"]) == 1


# ------------------------------------------------------------------------------------------------ the world


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.xdist_group("prefect")
def test_a_prefect_server_that_dies_takes_nothing_with_it(tmp_path: Path) -> None:
    """When Prefect's server is killed in mid-run, every edit is still made, fetched and booked, and the run ends."""
    with serving_prefect(tmp_path / "server") as (api, server), emulated(speed=60) as account:
        write_manifest(tmp_path / "m.csv", 8)
        settings = environment(account, tmp_path / "prefect") | {"PREFECT_API_URL": api}
        running = subprocess.Popen(
            RUN, cwd=tmp_path, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        while not account.bill():
            assert running.poll() is None
            time.sleep(0.1)
        server.kill()
        told = running.communicate(timeout=150)[0]
        assert running.returncode == 0, told
        assert "Traceback" not in told
        assert len(account.get("tasks")["tasks"]) == 8
        books_agree(tmp_path, account)


async def test_a_network_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    """While the service can't be reached nothing is lost; when it is back the run goes on as if nothing had been."""
    with pytest.MonkeyPatch.context() as patch, emulated(speed=120) as account:
        point_to(account, patch)
        asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 8))
        running = asyncio.create_task(edit(asked))
        while not account.bill():  # noqa: ASYNC110 - the emulator is looked at from outside
            await asyncio.sleep(0.05)
        drop = [{"kind": "drop-before-accept", "on": kind} for kind in ("query", "list", "result")]
        account.faults(*drop)
        await asyncio.sleep(3)
        account.faults()
        summary = await running
        assert summary.exit_code is ExitCode.OK
        assert len(account.get("tasks")["tasks"]) == 8
        books_agree(tmp_path, account)


class JumpingClock(SystemClock):
    """A machine whose clock is wrong, and is set while we run."""

    off_s = 0.0

    def now(self) -> datetime:
        """Tell the wrong time."""
        return super().now() + timedelta(seconds=self.off_s)


async def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ages and windows go by the service's clock, so ours may be days off and jump."""
    clock = JumpingClock()

    async def jump() -> None:
        for off in (90_000.0, -90_000.0, 3.0):
            await asyncio.sleep(0.4)
            clock.off_s = off

    # Not as fast as elsewhere: a second of a busy machine must not be more than a submit may take.
    with emulated(speed=60.0, min_run_s=20.0, mean_run_s=60.0, max_run_s=90.0) as account:
        point_to(account, monkeypatch)
        account.faults({"kind": "accept-then-drop", "nth": 2})
        asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 6))
        jumping = asyncio.create_task(jump())
        async with open_session(asked, clock=clock) as session:
            await walk.edit_videos(session, walk.Steps())
            await session.flush()
        await jumping
        assert len(account.get("tasks")["tasks"]) == 6
        books_agree(tmp_path, account)


async def test_a_slow_result_host_does_not_hold_the_slots(tmp_path: Path, account: Account) -> None:
    """While results trickle in, the service's slots go on being filled."""
    account.faults({"kind": "result-slow", "rate": 3000})
    summary = await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 6)))
    assert summary.exit_code is ExitCode.OK
    books_agree(tmp_path, account)


# -------------------------------------------------------------------------------------------------- people


async def parked_run(folder: Path, account: Account) -> str:
    """Leave one attempt parked, whose task was made; says which task."""
    account.faults({"kind": "accept-then-drop", "nth": 1}, {"kind": "list-absent"})
    summary = await edit(options(folder, write_manifest(folder / "m.csv", 2)))
    assert summary.exit_code is ExitCode.PARKED
    account.faults()
    known = {row["task_id"] for row in attempts(folder)}
    (lost,) = (task["task_id"] for task in account.get("tasks")["tasks"] if task["task_id"] not in known)
    return str(lost)


async def test_a_person_adopts_a_task(tmp_path: Path, account: Account) -> None:
    """`resolve` shows what a person needs; a named task is fetched and booked by the next run, and it is journalled."""
    task = await parked_run(tmp_path, account)
    listed = wanbatch(tmp_path, "resolve")
    assert listed.returncode == ExitCode.PARKED
    assert "clip-0001" in listed.stdout
    assert "make it look like clay 1" in listed.stdout
    assert wanbatch(tmp_path, "status").returncode == ExitCode.PARKED
    told = json.loads(wanbatch(tmp_path, "resolve", "--json").stdout)
    assert told[0]["item"] == "clip-0001"
    assert wanbatch(tmp_path, "resolve", "nobody", "--adopt", task).returncode == ExitCode.USAGE
    taken = attempts(tmp_path)[0]["task_id"]
    assert wanbatch(tmp_path, "resolve", "clip-0001", "--adopt", taken).returncode == ExitCode.USAGE
    assert wanbatch(tmp_path, "resolve", "clip-0001", "--adopt", task).returncode == 0
    summary = await edit(options(tmp_path, tmp_path / "m.csv"))
    assert summary.exit_code is ExitCode.OK
    books_agree(tmp_path, account)
    journal = Journal.open(tmp_path / "ledger" / "journal.db")
    (row,) = (row for row in attempts(tmp_path) if row["adopted"])
    assert any(task in note for *_, note in journal.events(row["key"]))


async def test_a_person_declares_that_nothing_was_made(tmp_path: Path, account: Account) -> None:
    """A parked attempt declared not created is settled at no cost, and the item is sent again."""
    await parked_run(tmp_path, account)
    assert wanbatch(tmp_path, "resolve", "clip-0001", "--not-created").returncode == 0
    assert wanbatch(tmp_path, "resolve").stdout.strip() == "nothing is parked"
    summary = await edit(options(tmp_path, tmp_path / "m.csv"))
    assert summary.exit_code is ExitCode.OK
    first = [row for row in attempts(tmp_path) if row["id"] == "clip-0001"]
    assert [(row["status"], row["attempt"]) for row in first] == [("not_created", 1), ("succeeded", 2)]


async def test_what_waits_is_cancelled_and_booked(tmp_path: Path) -> None:
    """`cancel` cancels what is PENDING; the next run books it as cancelled, at no cost."""
    with pytest.MonkeyPatch.context() as patch, emulated(speed=1, slots=1) as account:
        point_to(account, patch)
        manifest = write_manifest(tmp_path / "m.csv", 3)
        await edit(options(tmp_path, manifest, max_runtime="1s"))
        words = ("cancel", "--service", "emulator")
        with pytest.MonkeyPatch.context() as wrong:
            wrong.setenv(KEY_VARIABLE, "sk-wrong")
            told = await asyncio.to_thread(wanbatch, tmp_path, *words)
        assert (told.returncode, "give a valid API key" in told.stderr) == (ExitCode.ACCOUNT_STOPPED, True)
        told = await asyncio.to_thread(wanbatch, tmp_path, *words, account=account)
        assert told.returncode == 0, told.stderr
        account.post("clock", {"advance": 600})
        summary = await edit(options(tmp_path, manifest))
        assert summary.exit_code is ExitCode.SOME_FAILED
        statuses = {row["status"] for row in attempts(tmp_path)}
        assert statuses == {"succeeded", "cancelled"}
        books_agree(tmp_path, account)


async def test_what_failed_is_edited_again_by_will(tmp_path: Path, account: Account) -> None:
    """`--retry failed` opens again what had ended, as a new attempt; without it nothing happens."""
    account.faults(
        {"kind": "fail", "code": "DataInspectionFailed", "message": "Output data may …", "count": 1}
    )
    manifest = write_manifest(tmp_path / "m.csv", 2)
    assert (await edit(options(tmp_path, manifest))).exit_code is ExitCode.SOME_FAILED
    assert (await edit(options(tmp_path, manifest))).exit_code is ExitCode.SOME_FAILED
    assert len(account.get("tasks")["tasks"]) == 2
    assert (await edit(options(tmp_path, manifest, retry=("failed",)))).exit_code is ExitCode.OK
    assert len(account.get("tasks")["tasks"]) == 3
    journal = Journal.open(tmp_path / "ledger" / "journal.db")
    assert journal.open_attempts(*State) == [] or all(
        a.state is State.SETTLED for a in journal.open_attempts(*State)
    )
    shutil.rmtree(tmp_path / "videos")
