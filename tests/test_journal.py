"""The journal on SQLite and on a real PostgreSQL: what may happen to an attempt, and to whom it belongs."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.disk import disk_full_at, read_only_folder, unprivileged
from wanbatch.books import ledger_row
from wanbatch.errors import BudgetReached, ClaimLost, JournalError
from wanbatch.journal import Attempt, Cap, Journal, Outcome, State, schema
from wanbatch.models import EditRequest, Item, TaskReport, TaskStatus, Usage
from wanbatch.settings import SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest_plugins = ("tests.postgres",)

ROOT = Path(__file__).parent.parent
SECRETS = ("c2lnbmVk", "LTAI5tSecretId", "tok3n-of-sts")
SIGNED = (
    "https://bucket.oss-cn-beijing.aliyuncs.com/{name}?Expires=1787578874"
    "&OSSAccessKeyId=LTAI5tSecretId&Signature=c2lnbmVk%3D&security-token=tok3n-of-sts"
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgres"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of an empty journal, on either database."""
    if request.param == "sqlite":
        return str(tmp_path / "journal.db")
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], Journal]]:
    """Give a way to open the journal once more."""
    journals: list[Journal] = []

    def once_more() -> Journal:
        journals.append(Journal.open(url))
        return journals[-1]

    yield once_more
    for journal in journals:
        journal.close()


@pytest.fixture
def journal(opened: Callable[[], Journal]) -> Journal:
    """Give a journal with one run, `us`, at work."""
    journal = opened()
    begin(journal, "us")
    return journal


def begin(journal: Journal, run_id: str) -> None:
    """Begin a run of this process."""
    journal.begin_run(run_id, service="test", manifest="m.csv")


def an_item(key: str) -> Item:
    """Make an item; its media are signed."""
    request = EditRequest(
        video=SIGNED.format(name=f"{key}.mp4"), prompt="clay", reference_images=(SIGNED.format(name="a.png"),)
    )
    return Item(key=key, row=1, request=request, id=key, tags={"team": "x"})


def claim(journal: Journal, key: str, run_id: str = "us", **more: Any) -> Attempt:
    """Intend an attempt at an item."""
    usual: dict[str, Any] = {"service": "test", "manifest": "m.csv", "number": 1}
    return journal.claim(run_id, an_item(key), **usual | more)


def settle(journal: Journal, attempt: Attempt, cost: Decimal | None = Decimal(0)) -> Attempt:
    """Settle an attempt."""
    now = datetime.now(UTC)
    return journal.settled(attempt, Outcome.SUCCEEDED, row={"key": attempt.key}, cost=cost, settled_at=now)


def change(journal: Journal, statement: sa.Executable) -> None:
    """Change what only another machine, or time, would change."""
    with journal._engine.begin() as db:
        db.execute(statement)


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Do things in threads that start together."""
    start = threading.Barrier(len(works))

    def go(work: Callable[[], Any]) -> Any:
        start.wait(30)
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(go, works))


# -------------------------------------------------------------------------------------------- transitions

REPORT = TaskReport(
    task_id="t",
    status=TaskStatus.SUCCEEDED,
    ended_at=datetime(2026, 4, 2, 16, 11, 57, 286_001, UTC),
    usage=Usage(billed_s=Decimal("10.04"), video_count=1, sr=720),
)
MOVES: dict[str, Callable[[Journal, Attempt], object]] = {
    "sent": lambda journal, it: journal.sent(it, service_time=None),
    "unsent": lambda journal, it: journal.unsent(it),
    "accepted": lambda journal, it: journal.accepted(it, task_id=f"t-{it.key}", request_id="r"),
    "in_doubt": lambda journal, it: journal.in_doubt(it, why="dropped", request_id="r"),
    "adopted": lambda journal, it: journal.adopted(
        it, task_id=f"t-{it.key}", submitted_at=None, who="me", why="seen"
    ),
    "parked": lambda journal, it: journal.parked(it, why="two of them"),
    "reopened": lambda journal, it: journal.reopened(it, who="me", why="asked"),
    "succeeded": lambda journal, it: journal.succeeded(it, REPORT),
    "stored": lambda journal, it: journal.stored(it, output="o.mp4", size=3_000_000_000, sha256="ab"),
    "settled": settle,
}
WAYS = {
    State.INTENDED: [],
    State.SENT: ["sent"],
    State.IN_DOUBT: ["sent", "in_doubt"],
    State.PARKED: ["sent", "in_doubt", "parked"],
    State.ACCEPTED: ["sent", "accepted"],
    State.SUCCEEDED: ["sent", "accepted", "succeeded"],
    State.STORED: ["sent", "accepted", "succeeded", "stored"],
    State.SETTLED: ["sent", "accepted", "succeeded", "stored", "settled"],
}
ALLOWED = {
    State.INTENDED: {"sent": State.SENT, "settled": State.SETTLED},
    State.SENT: {
        "unsent": State.INTENDED,
        "accepted": State.ACCEPTED,
        "in_doubt": State.IN_DOUBT,
        "settled": State.SETTLED,
    },
    State.IN_DOUBT: {"adopted": State.ACCEPTED, "parked": State.PARKED, "settled": State.SETTLED},
    State.PARKED: {
        "adopted": State.ACCEPTED,
        "parked": State.PARKED,
        "reopened": State.IN_DOUBT,
        "settled": State.SETTLED,
    },
    State.ACCEPTED: {"succeeded": State.SUCCEEDED, "settled": State.SETTLED},
    State.SUCCEEDED: {"succeeded": State.SUCCEEDED, "stored": State.STORED, "settled": State.SETTLED},
    State.STORED: {"settled": State.SETTLED},
    State.SETTLED: {},
}


def brought(journal: Journal, key: str, state: State) -> Attempt:
    """Bring a new attempt into a state."""
    claim(journal, key)
    for move in WAYS[state]:
        MOVES[move](journal, journal.get(key, 1))
    return journal.get(key, 1)


@pytest.mark.parametrize("state", State)
def test_an_attempt_moves_only_as_the_table_says(journal: Journal, state: State) -> None:
    """From every state exactly these moves are possible; any other changes nothing at all."""
    found = {}
    for move, act in MOVES.items():
        before = brought(journal, f"{state}-{move}", state)
        assert before.state is state
        try:
            act(journal, before)
        except ClaimLost:
            assert journal.get(before.key, 1) == before
        else:
            found[move] = journal.get(before.key, 1).state
    assert found == ALLOWED[state]


@pytest.mark.parametrize("state", [state for state in State if state is not State.SETTLED])
def test_nobody_moves_what_another_run_holds(journal: Journal, state: State) -> None:
    """An attempt that another run has taken up obeys that run alone."""
    for move in ALLOWED[state]:
        held = brought(journal, f"{state}-{move}", state)
        with pytest.raises(ClaimLost):
            MOVES[move](journal, replace(held, run_id="them"))
        assert journal.get(held.key, 1) == held


@pytest.mark.parametrize("move", ["sent", "accepted", "succeeded", "stored", "settled", "in_doubt", "parked"])
def test_a_move_gives_what_the_journal_has(journal: Journal, move: str) -> None:
    """The attempt that a move returns is the one that a reader finds."""
    state = next(state for state in State if move in ALLOWED[state] and state.value != move)
    moved = MOVES[move](journal, brought(journal, "k", state))
    assert moved == journal.get("k", 1)


def test_a_task_belongs_to_one_attempt(journal: Journal) -> None:
    """A provider task that one attempt has can't become another's."""
    brought(journal, "one", State.ACCEPTED)
    lost = brought(journal, "two", State.IN_DOUBT)
    with pytest.raises(ClaimLost, match="t-one"):
        journal.adopted(lost, task_id="t-one", submitted_at=None, who="me", why="seen")
    assert journal.get("two", 1) == lost
    assert journal.known_tasks(["t-one", "t-two"]) == {"t-one"}


def test_a_doubt_and_its_end_are_told(journal: Journal) -> None:
    """What was decided about an attempt, by whom and why, can be read afterwards."""
    MOVES["adopted"](journal, brought(journal, "k", State.PARKED))
    told = [(what, who, why) for _, _, what, who, why in journal.events("k")]
    assert told == [
        ("in_doubt", "wanbatch", "dropped"),
        ("parked", "wanbatch", "two of them"),
        ("accepted", "me", "seen"),
    ]


@pytest.mark.parametrize("state", State)
def test_only_what_was_never_sent_can_be_withdrawn(journal: Journal, state: State) -> None:
    """An attempt that may have been paid is never forgotten."""
    attempt = brought(journal, "k", state)
    journal.withdrawn(attempt)
    assert bool(journal.latest(["k"])) is (state is not State.INTENDED)


def test_the_latest_attempt_counts(journal: Journal) -> None:
    """Of several attempts at an item the last is found, among more items than one statement takes."""
    for number in (1, 2, 3):
        settle(journal, claim(journal, "k", number=number))
    keys = [f"none-{number}" for number in range(1_200)]
    assert [attempt.number for attempt in journal.latest([*keys, "k"]).values()] == [3]


# ------------------------------------------------------------------------------------------------ claiming


def test_each_key_is_claimed_once_by_threads(journal: Journal, opened: Callable[[], Journal]) -> None:
    """Many runs that want the same items get each exactly once."""
    keys = [f"k{number}" for number in range(12)]
    runs = [(f"run-{number}", opened()) for number in range(6)]

    def claim_all(run_id: str, own: Journal) -> list[str]:
        begin(own, run_id)
        won = []
        for key in keys:
            try:
                won.append(claim(own, key, run_id).key)
            except ClaimLost:
                continue
        return won

    won = at_once(*(lambda run=run: claim_all(*run) for run in runs))
    assert sorted(key for keys in won for key in keys) == sorted(keys)
    assert len(journal.open_attempts()) == len(keys)


@contextmanager
def holder(url: str, run_id: str, *keys: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that claims keys when it is told to go on."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.holder", url, run_id, *keys],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def go_on(child: subprocess.Popen[str]) -> None:
    """Let a holder claim."""
    assert child.stdin
    child.stdin.write("\n")
    child.stdin.flush()


def told(child: subprocess.Popen[str]) -> list[str]:
    """Read what a holder won."""
    assert child.stdout
    won: list[str] = json.loads(child.stdout.readline())
    return won


def test_each_key_is_claimed_once_by_processes(url: str, journal: Journal) -> None:
    """Two processes that want the same items get each exactly once."""
    keys = [f"k{number}" for number in range(20)]
    with holder(url, "one", *keys) as one, holder(url, "two", *keys) as two:
        for child in (one, two):
            go_on(child)
        assert sorted(told(one) + told(two)) == sorted(keys)
    assert {attempt.key for attempt in journal.open_attempts()} == set(keys)


def test_a_killed_process_is_noticed_at_once(url: str, journal: Journal) -> None:
    """A live process is not robbed; what a killed one sent is in doubt, what it meant to send forgotten."""
    with holder(url, "them", "intended", "sent", "accepted") as child:
        go_on(child)
        told(child)
        assert journal.take_over("us", "test") == []
        assert (journal.dead_runs(), journal.live_runs("test")) == ([], 2)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried by its parent
        assert (journal.dead_runs(), journal.live_runs("test")) == (["them"], 1)
        taken = journal.take_over("us", "test")
    assert [(attempt.key, attempt.state) for attempt in taken] == [
        ("sent", State.IN_DOUBT),
        ("accepted", State.ACCEPTED),
    ]
    assert {attempt.run_id for attempt in taken} == {"us"}
    assert taken[0].doubted_at
    assert taken[1].task_id == "task-of-accepted"


def test_another_machine_is_robbed_only_when_its_lease_ran_out(journal: Journal) -> None:
    """Whether a process of another machine lives is known by its lease alone, and a heartbeat renews it."""
    begin(journal, "them")
    journal.sent(claim(journal, "k", "them"), service_time=None)
    elsewhere = json.dumps({"place": "elsewhere", "pid": 1, "started": "1"})
    change(journal, schema.runs.update().where(schema.runs.c.run_id == "them").values(owner=elsewhere))
    assert journal.take_over("us", "test") == []
    long_ago = datetime.now(UTC) - timedelta(minutes=2)
    lapsed = schema.runs.update().where(schema.runs.c.run_id == "them").values(lease_until=long_ago)
    change(journal, lapsed)
    journal.heartbeat("them")
    assert journal.take_over("us", "test") == []
    change(journal, lapsed)
    (taken,) = journal.take_over("us", "test")
    assert (taken.key, taken.run_id) == ("k", "us")


def test_what_an_ended_run_left_open_is_taken_over_at_one_service(journal: Journal) -> None:
    """A run that ends lets go of what is open; what is settled, or at another service, stays."""
    begin(journal, "them")
    for key in ("open", "settled", "elsewhere"):
        attempt = claim(journal, key, "them", service="other" if key == "elsewhere" else "test")
        journal.sent(attempt, service_time=None)
    settle(journal, journal.get("settled", 1))
    journal.end_run("them")
    assert [attempt.key for attempt in journal.take_over("us", "test")] == ["open"]
    assert journal.get("settled", 1).run_id == "them"


def test_a_dead_run_is_taken_over_by_one(journal: Journal, opened: Callable[[], Journal]) -> None:
    """Of many runs that start together, one gets each attempt that a run left behind."""
    begin(journal, "them")
    keys = [f"k{number:02}" for number in range(20)]
    for key in keys:
        journal.sent(claim(journal, key, "them"), service_time=None)
    journal.end_run("them")
    runs = [(f"run-{number}", opened()) for number in range(4)]
    for run_id, own in runs:
        begin(own, run_id)
    taken = at_once(*(lambda run_id=run_id, own=own: own.take_over(run_id, "test") for run_id, own in runs))
    assert sorted(attempt.key for some in taken for attempt in some) == keys


def test_two_runs_may_look_at_one_medium(journal: Journal, opened: Callable[[], Journal]) -> None:
    """What several runs find out about a medium at once is kept once."""
    others = [opened() for _ in range(6)]
    for number in range(5):
        at_once(*(lambda own=own: own.keep_probe(f"m{number}", "5 s") for own in others))  # noqa: B023 - done before the next
        assert journal.probe_of(f"m{number}") == "5 s"


# --------------------------------------------------------------------------------------------------- money


@pytest.mark.parametrize("since", [None, datetime(2026, 1, 1, tzinfo=UTC)])
def test_a_cap_is_never_passed(
    journal: Journal, opened: Callable[[], Journal], since: datetime | None
) -> None:
    """However many claim at once, what is spent and reserved stays under the cap, and fills it."""
    cap = Cap(amount=Decimal("10.00"), currency="USD", since=since)
    settle(
        journal, claim(journal, "before", reserve=Decimal(3), currency="USD", caps=[cap]), cost=Decimal("2.5")
    )
    runs = [("us" if since is None else f"run-{number}", opened()) for number in range(6)]

    def claim_some(number: int) -> int:
        run_id, own = runs[number]
        done = 0
        for turn in range(4):
            try:
                claim(own, f"{number}-{turn}", run_id, reserve=Decimal(1), currency="USD", caps=[cap])
                done += 1
            except BudgetReached:
                continue
        return done

    assert sum(at_once(*(lambda number=number: claim_some(number) for number in range(6)))) == 7
    assert journal.committed(cap, "us") == Decimal("9.5")


def test_what_counts_under_a_cap(journal: Journal) -> None:
    """Withdrawn money is free again, unknown costs count as reserved, other currencies and older days do not."""
    cap = Cap(amount=Decimal(10), currency="USD")
    lasting = replace(cap, since=datetime.now(UTC) + timedelta(days=1))
    journal.withdrawn(claim(journal, "withdrawn", reserve=Decimal(9), currency="USD", caps=[cap]))
    assert journal.committed(cap, "us") == 0
    settle(journal, claim(journal, "unknown", reserve=Decimal(4), currency="USD", caps=[cap]), cost=None)
    claim(journal, "yuan", reserve=Decimal(100), currency="CNY")
    assert [journal.committed(each, "us") for each in (cap, lasting)] == [Decimal(4), Decimal(0)]
    claim(journal, "open", reserve=Decimal(5), currency="USD", caps=[cap])
    assert [journal.committed(each, "us") for each in (cap, lasting)] == [Decimal(9), Decimal(5)]
    for reserve in (Decimal("1.000001"), None):
        with pytest.raises(BudgetReached, match="10 USD"):
            claim(journal, "more", reserve=reserve, currency="USD", caps=[cap])
    claim(journal, "more", reserve=Decimal(1), currency="USD", caps=[cap])
    assert journal.committed(cap, "us") == cap.amount
    assert journal.spent_by_currency() == {"USD": Decimal(0)}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(costs=st.lists(st.decimals(0, 1_000_000, places=6), min_size=1, max_size=5))
def test_money_is_exact(journal: Journal, costs: list[Decimal]) -> None:
    """What six decimal places can say is kept and added up without a rounding."""
    run_id = uuid.uuid4().hex  # each example has a run and a currency to itself
    attempts = [
        settle(
            journal, claim(journal, run_id, run_id, number=number, reserve=cost, currency=run_id), cost=cost
        )
        for number, cost in enumerate(costs)
    ]
    assert [(it.cost, it.reserved) for it in attempts] == [(cost, cost) for cost in costs]
    assert journal.get(run_id, len(costs) - 1).cost == costs[-1]
    assert journal.spent_by_currency()[run_id] == sum(costs)
    assert journal.committed(Cap(amount=Decimal(1), currency=run_id), run_id) == sum(costs)


# ----------------------------------------------------------------------------------------------- to the ledger


def test_a_batch_keeps_its_name_through_a_crash(journal: Journal, opened: Callable[[], Journal]) -> None:
    """Whoever finds a batch that was not written finds it under its first name, with the same rows."""
    for number in range(3):
        settle(journal, claim(journal, f"k{number}"))
    batch = journal.take_batch("us", "first", at_most=2)
    assert batch is not None
    later = opened()
    assert later.unwritten("us") == [batch]
    rest = later.take_batch("us", "second")
    assert rest is not None
    assert later.take_batch("us", "third") is None
    assert [row["key"] for row in (*batch.rows, *rest.rows)] == ["k0", "k1", "k2"]
    later.written(batch)
    assert journal.unwritten("us") == [rest]
    assert [row["key"] for row in journal.settled_rows("us")] == ["k0", "k1", "k2"]


@pytest.mark.parametrize(("end", "mine"), [("alive", False), ("ended", True), ("dead", True)])
def test_the_books_of_a_run_are_its_own_until_it_is_gone(journal: Journal, end: str, *, mine: bool) -> None:
    """What a live run settled is its own to write; what an ended or dead one settled is anybody's."""
    begin(journal, "them")
    settle(journal, claim(journal, "batched", "them"))
    journal.take_batch("them", "theirs")
    settle(journal, claim(journal, "settled", "them"))
    claim(journal, "open", "them")
    if end == "ended":
        journal.end_run("them")
    if end == "dead":
        gone = json.dumps({**json.loads(_owner(journal)), "started": "1"})
        change(journal, schema.runs.update().where(schema.runs.c.run_id == "them").values(owner=gone))
    assert journal.unbatched_runs("us") == (["them"] if mine else [])
    assert [batch.name for batch in journal.unwritten("us")] == (["theirs"] if mine else [])
    assert journal.unbatched_runs("them") == ["them"]


def _owner(journal: Journal) -> str:
    with journal._engine.connect() as db:
        return str(db.scalar(sa.select(schema.runs.c.owner)))


def test_a_row_is_in_one_batch(journal: Journal, opened: Callable[[], Journal]) -> None:
    """Of many that clear up after the same run, each row is given to one."""
    others = [opened() for _ in range(4)]
    for turn in range(5):
        keys = [settle(journal, claim(journal, f"{turn}-{number}")).key for number in range(5)]
        taken = at_once(
            *(
                lambda own=own, name=f"{turn}-{at}": own.take_batch("us", name)
                for at, own in enumerate(others)
            )
        )
        assert sorted(row["key"] for batch in taken if batch for row in batch.rows) == keys
    assert sum(len(batch.rows) for batch in journal.unwritten("us")) == 25


# ---------------------------------------------------------------------------------------------------- secrets


def test_no_signature_is_stored(journal: Journal, url: str) -> None:
    """Nothing that opens a signed URL is in the database, in any table or file."""
    for state in State:
        attempt = brought(journal, f"k-{state}", state)
        if attempt.open:
            row = ledger_row(
                attempt,
                Outcome.FAILED,
                service=SERVICES["emulator"],
                rate=None,
                code="",
                message="",
                settled_at=datetime.now(UTC),
            )
            journal.settled(attempt, Outcome.FAILED, row=row, cost=None, settled_at=datetime.now(UTC))
    with journal._engine.connect() as db:
        content = repr([db.execute(sa.select(table)).all() for table in schema.metadata.sorted_tables])
    if "://" not in url:
        content += "".join(str(file.read_bytes()) for file in Path(url).parent.iterdir())
    assert "bucket.oss-cn-beijing.aliyuncs.com/k-sent.mp4" in content
    assert [secret for secret in SECRETS if secret in content] == []


# ----------------------------------------------------------------------------------------- what can't be used


def cannot_open(url: str | Path) -> str:
    """Fail to open a journal, in one line that names it."""
    with pytest.raises(JournalError) as caught:
        Journal.open(url)
    words = str(caught.value)
    assert len(words.splitlines()) == 1
    return words


def test_another_versions_journal_is_refused(journal: Journal, url: str) -> None:
    """A journal of another version of the tables is left alone."""
    change(journal, schema.meta.update().values(value="999"))
    assert "schema 999" in cannot_open(url)


def test_a_journal_is_opened_by_many_at_once(url: str) -> None:
    """The tables are made once, however many runs start together."""
    for journal in at_once(*(lambda: Journal.open(url) for _ in range(6))):
        assert journal.open_attempts() == []
        journal.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """A file that is something else is named and left as it is."""
    path = tmp_path / "journal.db"
    path.write_text("video,prompt\n" * 1_000)
    assert "journal.db" in cannot_open(path)
    assert path.read_text().startswith("video,prompt")


def test_a_damaged_journal_is_noticed(tmp_path: Path) -> None:
    """A file whose pages are overwritten is damaged: said when it is opened or looked through."""
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    for number in range(200):
        settle(journal, claim(journal, f"k{number}"))
    journal.check()
    journal.close()
    content = bytearray(path.read_bytes())
    content[8_192 : len(content) - 4_096] = b"\xa5" * (len(content) - 12_288)
    path.write_bytes(content)

    def look() -> None:
        damaged = Journal.open(path)
        damaged.check()

    with pytest.raises(JournalError, match="damaged") as caught:
        look()
    assert len(str(caught.value).splitlines()) == 1


def test_a_locked_journal_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that another process holds for too long is an error with its name, not a hang."""
    monkeypatch.setattr(schema, "_BUSY_MS", 50)
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    begin(journal, "us")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "locked" in cannot_open(path)
    with pytest.raises(JournalError, match="locked"):
        claim(journal, "k")
    other.rollback()
    assert claim(journal, "k").state is State.INTENDED
    other.close()
    journal.close()


def test_a_place_that_is_no_place_is_refused(tmp_path: Path) -> None:
    """A folder, something below a file, and an unknown kind of database are no journals."""
    (tmp_path / "file").touch()
    assert str(tmp_path) in cannot_open(tmp_path)
    assert "file" in cannot_open(tmp_path / "file" / "journal.db")
    assert "hunter2" not in cannot_open("nosuch://user:hunter2@host/db")
    assert "x@h" not in cannot_open("postgresql://u:x@h:notaport/db")


def test_a_read_only_journal_is_refused() -> None:
    """Where nothing can be written nothing is begun."""
    with read_only_folder() as folder:
        words = unprivileged(lambda: Journal.open(folder / "journal.db"))
    assert words.startswith("JournalError: ")
    assert "--journal" in words


@pytest.mark.xdist_group("postgres")
def test_a_database_that_is_not_there_is_refused(postgres: str) -> None:
    """A server that does not answer, or has no such database, is an error without its password."""
    words = cannot_open("postgresql://user:hunter2@127.0.0.1:1/db")
    assert "127.0.0.1" in words
    assert "hunter2" not in words
    assert "no_such" in cannot_open(postgres.replace("/postgres?", "/no_such?"))


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """A write that the disk refuses is an error; what was there stays, and work goes on when there is room."""
    journal = Journal.open(tmp_path / "journal.db")
    begin(journal, "us")
    claim(journal, "before")
    with disk_full_at(1_000), pytest.raises(JournalError) as caught:
        claim(journal, "during")
    assert len(str(caught.value).splitlines()) == 1
    claim(journal, "after")
    assert [attempt.key for attempt in journal.open_attempts()] == ["before", "after"]
    journal.check()
    journal.close()
