"""A plan says what a run would do, and a run does what its plan says."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import WANBATCH, Account, emulated, options, point_to, write_manifest
from tests.emulator.kit import make_clip
from tests.rows import a_batch, a_row
from wanbatch import walk
from wanbatch.errors import ExitCode, LedgerError, ManifestError, UsageError
from wanbatch.journal import Journal
from wanbatch.ledger import Ledger
from wanbatch.manifest import read_manifest
from wanbatch.models import Resolution
from wanbatch.opening import open_session, preflight
from wanbatch.options import RunOptions
from wanbatch.planning import (
    REFERENCE,
    Plan,
    Standing,
    Sums,
    as_json,
    estimate,
    make_plan,
    makespan_s,
    run_times,
    write_plan,
)
from wanbatch.pricing import RateCard
from wanbatch.settings import ADDRESS_VARIABLE, KEY_VARIABLE, Limits
from wanbatch.summary import Summary, summarise

CARD = RateCard.load("singapore")
DAY = datetime(2026, 11, 22, tzinfo=UTC).date()
FRAMES_S = Decimal("0.2")

lengths = st.integers(200, 1000).map(lambda hundredths: Decimal(hundredths) / 100)
cuts = st.sampled_from([0, *range(2, 11)])
resolutions = st.sampled_from(Resolution)


async def edit(asked: RunOptions) -> Summary:
    """Run the whole walk once."""
    async with open_session(asked) as session:
        await walk.edit_videos(session, walk.Steps())
        return await summarise(session)


async def kept(asked: RunOptions, path: Path) -> Plan:
    """Make a plan and write its file."""
    plan = await make_plan(asked)
    write_plan(plan, path)
    return plan


def rows(path: Path, *lines: dict[str, str]) -> Path:
    """Write a manifest of these rows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        names = list(dict.fromkeys(name for line in lines for name in line))
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(lines)
    return path


def names(folder: Path) -> list[str]:
    """Name what is in a folder."""
    return [path.name for path in folder.iterdir()]


def command(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder, without a key and an address but for what is named."""
    settings = {
        name: value for name, value in os.environ.items() if name not in {KEY_VARIABLE, ADDRESS_VARIABLE}
    }
    return subprocess.run(
        [str(WANBATCH), *words],
        cwd=folder,
        env=settings | more,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# ------------------------------------------------------------------------------------------------ the cost


@given(st.lists(st.tuples(lengths, cuts, resolutions, st.booleans(), st.booleans()), max_size=200))
def test_no_bill_leaves_the_bounds(edits: list[tuple[Decimal, int, Resolution, bool, bool]]) -> None:
    """However a cut input is billed, and looked at or not, the bill lies between low and worst."""
    sums, bill = Sums(), Decimal(0)
    for length, cut, resolution, looked_at, bills_whole in edits:
        rate = CARD.rate(resolution, DAY)
        assert rate is not None
        sums.add(estimate(rate, length if looked_at else None, cut))
        made = min(length, Decimal(cut)) if cut else length
        bill += rate.cost((length if bills_whole else made) + made)
    assert sums.low <= bill <= sums.worst
    assert sums.low <= sums.expected <= sums.worst
    assert sums.edits == len(edits)


@given(lengths, cuts, resolutions)
def test_a_look_narrows_the_bounds(length: Decimal, cut: int, resolution: Resolution) -> None:
    """What is known of an input only ever narrows what its edit may cost."""
    rate = CARD.rate(resolution, DAY)
    seen, unseen = estimate(rate, length, cut).price, estimate(rate, None, cut).price
    assert seen is not None
    assert unseen is not None
    assert unseen.low <= seen.low <= seen.expected <= seen.worst <= unseen.worst


@given(lengths, cuts, resolutions, st.integers(1, 1000))
def test_many_of_a_kind_cost_as_many_times_as_much(
    length: Decimal, cut: int, resolution: Resolution, times: int
) -> None:
    """Adding so many at once is adding them one by one."""
    one = estimate(CARD.rate(resolution, DAY), length, cut)
    at_once, one_by_one = Sums(), Sums()
    at_once.add(one, times)
    for _ in range(times):
        one_by_one.add(one)
    assert at_once == one_by_one


def test_an_unknown_price_is_not_nothing() -> None:
    """An edit without a price is counted as unknown, and no sum pretends to hold it."""
    assert Sums().known
    sums = Sums()
    sums.add(estimate(None, Decimal(5), 0))
    assert (sums.unknown, sums.seconds, sums.expected) == (1, Decimal(10), Decimal(0))
    assert not sums.known


@pytest.mark.timeout(120)
async def test_the_estimate_agrees_with_the_bill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real clips, looked at, then edited: the bill is within 1 % of what was expected, and below the worst."""
    clips = tmp_path / "clips"
    clips.mkdir()
    make_clip(clips / "short.mp4", seconds=2.3)
    make_clip(clips / "long.mov", seconds=4.1)
    with emulated(render=True, media=clips, speed=600.0) as account:
        point_to(account, monkeypatch)
        media = f"{account.origin}/media"
        manifest = rows(
            tmp_path / "m.csv",
            {"video": f"{media}/short.mp4", "prompt": "clay", "resolution": "720P", "tag_film": "a"},
            {"video": f"{media}/long.mov", "prompt": "clay", "resolution": "720P", "tag_film": "a"},
            {"video": f"{media}/long.mov", "prompt": "clay", "duration": "2", "tag_film": "b"},
            {"video": f"{media}/long.mov", "prompt": "ink", "duration": "3", "resolution": "720P"},
            {"video": str(clips / "short.mp4"), "prompt": "ink", "resolution": "720P"},
        )
        asked = options(tmp_path, manifest, probe=True)
        plan = await kept(asked, tmp_path / "plan.json")
        assert not plan.problems
        assert (plan.unknown_length, plan.cut) == (0, 2)
        summary = await edit(asked.model_copy(update={"plan": str(tmp_path / "plan.json")}))
        assert summary.exit_code is ExitCode.OK
        billed = account.billed()
        assert abs(plan.new.expected - billed) <= billed / 100
        assert plan.new.low <= billed <= plan.new.worst
        done = await make_plan(asked)
        assert done.counts == {Standing.DONE: 5}
        assert (done.worst, done.run_times.samples) == (Decimal(0), 5)


# ------------------------------------------------------------------------------------------------ the rows


async def test_every_row_stands_somewhere(tmp_path: Path, account: Account) -> None:
    """New, open, done, failed, repeated and foreign rows are told apart, and only new ones cost."""
    one = {"video": "https://x.example.com/1.mp4?seconds=4.00", "prompt": "clay", "resolution": "720P"}
    bad = one | {"prompt": "forbidden"}
    first = rows(tmp_path / "first.csv", one, bad)
    assert (await edit(options(tmp_path, first))).exit_code is ExitCode.SOME_FAILED
    going, fresh = one | {"prompt": "going"}, one | {"prompt": "fresh", "tag_film": "f"}
    manifest = rows(tmp_path / "m.csv", one, bad, going, fresh, fresh, fresh | {"service": "beijing"}, one)
    item = next(read_manifest(manifest, first_row=3, last_row=3))
    journal = Journal.open(tmp_path / "ledger" / "journal.db")
    journal.begin_run("r", service="emulator", manifest="m.csv")
    journal.claim(
        "r", item, service="emulator", manifest="m.csv", number=1, reserve=Decimal("1.5"), currency="USD"
    )
    plan = await make_plan(options(tmp_path, manifest))
    assert plan.counts == {
        Standing.DONE: 1,
        Standing.FAILED: 1,
        Standing.OPEN: 1,
        Standing.NEW: 1,
        Standing.DUPLICATE: 2,
        Standing.ELSEWHERE: 1,
    }
    assert plan.new == plan.tags["film"]["f"] == Sums(1, 0, Decimal(12), *prices("0.4", "1.2", "2.02"))
    assert (plan.open_edits, plan.reserved, plan.worst) == (1, {"USD": Decimal("1.5")}, Decimal("3.52"))
    again = await make_plan(options(tmp_path, manifest, retry=("failed",)))
    assert (again.counts[Standing.AGAIN], again.counts[Standing.FAILED], again.new.edits) == (1, 0, 2)
    assert len(account.get("tasks")["tasks"]) == 2


def prices(*amounts: str) -> tuple[Decimal, ...]:
    """Give exact amounts."""
    return tuple(Decimal(amount) for amount in amounts)


async def test_parked_and_other_manifests_edits_keep_their_money(tmp_path: Path) -> None:
    """What is open of another manifest and what is parked counts towards the worst; parked ones take no time."""
    other = rows(tmp_path / "other.csv", *({"video": f"https://x.example.com/{n}.mp4"} for n in range(3)))
    waiting, parked, foreign = read_manifest(other)
    journal = Journal.open(tmp_path / "ledger" / "journal.db")
    journal.begin_run("r", service="emulator", manifest="other.csv")
    for item, service in ((waiting, "emulator"), (parked, "emulator"), (foreign, "beijing")):
        attempt = journal.claim(
            "r", item, service=service, manifest="o", number=1, reserve=Decimal(2), currency="USD"
        )
        if item is parked:
            attempt = journal.in_doubt(journal.sent(attempt, service_time=None), why="lost", request_id=None)
            journal.parked(attempt, why="two candidates")
    manifest = rows(
        tmp_path / "m.csv", *({"video": f"https://x.example.com/{number}.mp4"} for number in (1, 2, 3))
    )
    plan = await make_plan(options(tmp_path, manifest))
    assert plan.counts == {Standing.PARKED: 1, Standing.ELSEWHERE: 1, Standing.NEW: 1}
    assert (plan.open_edits, plan.reserved) == (1, {"USD": Decimal(4)})
    assert plan.worst == plan.new.worst + 4
    again = await make_plan(options(tmp_path, manifest, retry=("parked",)))
    assert (again.counts[Standing.OPEN], again.open_edits) == (1, 2)


async def test_what_would_be_refused_is_said_and_not_counted(tmp_path: Path) -> None:
    """An input that would not do is a problem of its row, and its cost is left out."""
    make_clip(tmp_path / "good.mp4", seconds=2)
    make_clip(tmp_path / "short.mp4", seconds=1)
    (tmp_path / "page.mp4").write_text("<html>gone</html>")
    videos = ("good.mp4", "short.mp4", "page.mp4")
    manifest = rows(tmp_path / "m.csv", *({"video": name, "resolution": "720P"} for name in videos))
    plan = await make_plan(options(tmp_path, manifest, probe=True))
    assert plan.counts == {Standing.NEW: 1, Standing.REFUSED: 2}
    assert [problem.row for problem in plan.problems] == [2, 3]
    assert "must last 2 to 10 s" in plan.problems[0].rule
    assert (plan.new.edits, plan.new.expected) == (1, Decimal("0.4"))


async def test_inputs_are_looked_at_once(tmp_path: Path) -> None:
    """What a plan saw of an input is remembered in the journal: it is not fetched again."""
    clips = tmp_path / "clips"
    clips.mkdir()
    make_clip(clips / "a.mp4", seconds=2)
    with emulated(render=True, media=clips) as account:
        manifest = rows(tmp_path / "m.csv", {"video": f"{account.origin}/media/a.mp4"})
        first = await make_plan(options(tmp_path, manifest, probe=True))
    second = await make_plan(options(tmp_path, manifest, probe=True))
    assert first.new == second.new
    assert second.problems == []


async def test_a_run_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A video that was replaced by a longer one since the plan is not paid for out of a budget for the short one."""
    clips = tmp_path / "clips"
    clips.mkdir()
    make_clip(clips / "a.mp4", seconds=2)
    with emulated(render=True, media=clips) as account:
        point_to(account, monkeypatch)
        manifest = rows(tmp_path / "m.csv", {"video": f"{account.origin}/media/a.mp4", "resolution": "720P"})
        asked = options(tmp_path, manifest, probe=True, budget="0.60")
        assert (await make_plan(asked)).new.worst < Decimal("0.60")
        make_clip(clips / "a.mp4", seconds=9)
        async with open_session(asked) as session:
            await walk.edit_videos(session, walk.Steps())
        assert account.bill() == []


async def test_without_probing_nothing_is_made(tmp_path: Path) -> None:
    """A plan that looks at no input leaves the disk as it was, and takes every length for unknown."""
    manifest = write_manifest(tmp_path / "m.csv", 3)
    plan = await make_plan(options(tmp_path, manifest))
    assert (plan.unknown_length, plan.new.worst) == (3, Decimal("7.07"))
    assert names(tmp_path) == ["m.csv"]


async def test_the_dearest_rows_come_first(tmp_path: Path) -> None:
    """The ten dearest rows are those that are expected to cost most, in that order, without signatures."""
    manifest = rows(
        tmp_path / "m.csv",
        *(
            {
                "video": f"https://x.example.com/{number}.mp4?Signature=s3cr3t",
                "duration": str(2 + number % 9),
                "resolution": "720P" if number % 2 else "1080P",
            }
            for number in range(60)
        ),
    )
    plan = await make_plan(options(tmp_path, manifest))
    every = [
        (estimate(plan.rates.rate(item.request.resolution, DAY), None, item.request.duration), item.row)
        for item in read_manifest(manifest)
    ]
    wanted = sorted(every, key=lambda pair: (-pair[0].price.expected if pair[0].price else 0, pair[1]))[:10]
    assert [dear.row for dear in plan.dearest] == [row for _, row in wanted]
    assert "s3cr3t" not in json.dumps(as_json(plan))


async def test_of_rows_that_cost_the_same_the_first_are_shown(tmp_path: Path) -> None:
    """Where no price is known the longest rows are the dearest, whatever their resolution, and the first of them."""
    lines = (
        {"video": f"https://x.example.com/{number}.mp4", "resolution": "720P" if number % 2 else "1080P"}
        for number in range(3_000)
    )
    asked = options(tmp_path, rows(tmp_path / "m.csv", *lines), service="http://127.0.0.1:1/api/v1")
    assert [dear.row for dear in (await make_plan(asked)).dearest] == list(range(1, 11))


async def test_the_same_edit_is_counted_once_however_far_apart(tmp_path: Path) -> None:
    """Rows without ids that ask for the same are one edit, thousands of rows apart too."""
    lines = ({"video": f"https://x.example.com/{number % 2_500}.mp4"} for number in range(4_000))
    plan = await make_plan(options(tmp_path, rows(tmp_path / "m.csv", *lines)))
    assert plan.counts == {Standing.NEW: 2_500, Standing.DUPLICATE: 1_500}
    assert plan.new.edits == 2_500


async def test_shares_cut_a_manifest_up(tmp_path: Path) -> None:
    """Every row falls into one share, and rows for another service into none."""
    lines = [{"video": f"https://x.example.com/{number}.mp4", "service": ""} for number in range(50)]
    manifest = rows(
        tmp_path / "m.csv", *lines, {"video": "https://x.example.com/v.mp4", "service": "beijing"}
    )
    parts = [await make_plan(options(tmp_path, manifest, share=f"{part}/3")) for part in (1, 2, 3)]
    assert sum(part.counts[Standing.NEW] for part in parts) == 50
    assert sum(part.counts[Standing.ELSEWHERE] for part in parts) == 2 * 50 + 3


async def test_a_tag_that_names_every_row_is_bounded(tmp_path: Path) -> None:
    """A tag with very many values is added up in full, the later ones together."""
    lines = [
        {"video": f"https://x.example.com/{number}.mp4", "tag_row": str(number)} for number in range(1200)
    ]
    plan = await make_plan(options(tmp_path, rows(tmp_path / "m.csv", *lines)))
    sums = plan.tags["row"]
    assert len(sums) == 1001
    assert sum(one.expected for one in sums.values()) == plan.new.expected
    assert sums["(other values)"].edits == 200


async def test_a_service_without_prices_is_planned_without_money(tmp_path: Path, account: Account) -> None:
    """Where no price is known no amount is shown, and its plan sets no budget."""
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 2), service=account.url)
    plan = await kept(asked, tmp_path / "plan.json")
    told = as_json(plan)
    assert (told["worst"], told["new"]["expected"], told["new"]["unknown_price"]) == (None, None, 2)
    summary = await edit(asked.model_copy(update={"plan": str(tmp_path / "plan.json")}))
    assert (summary.exit_code, summary.cost) == (ExitCode.OK, None)


# ------------------------------------------------------------------------------------------------ the time


def test_without_a_history_the_service_is_taken_at_its_word() -> None:
    """The first guess is one to five minutes; a history takes its place."""
    assert run_times([]) == REFERENCE
    known = run_times([float(seconds) for seconds in range(1, 101)])
    assert (known.mean, known.samples) == (50.5, 100)
    assert (known.quick, known.slow) == pytest.approx((10.9, 90.1))
    assert run_times([7.0]).mean == 7.0


@given(st.integers(0, 10_000), st.floats(1, 600), st.integers(1, 100))
def test_the_slots_bound_the_time(edits: int, run_s: float, slots: int) -> None:
    """It takes at least the work divided by the slots, and at most one edit longer."""
    least = edits * run_s / slots
    took = makespan_s(edits, run_s, Limits(slots=slots, submit_rate=1e9))
    assert least - 1e-6 <= took <= least + run_s


async def test_only_the_service_s_own_history_counts(tmp_path: Path) -> None:
    """The run times are those of succeeded edits at that service, and the end is reckoned from them."""
    ledger = Ledger(tmp_path / "ledger")
    ledger.write_batch(
        a_batch(
            "b",
            a_row("a", service="emulator", run_s=100.0),
            a_row("b", service="emulator", run_s=140.0),
            a_row("c", service="emulator", run_s=900.0, status="failed"),
            a_row("d", service="singapore", run_s=900.0),
            a_row("e", service="emulator", run_s=None),
        )
    )
    plan = await make_plan(options(tmp_path, write_manifest(tmp_path / "m.csv", 6)))
    assert (plan.run_times.mean, plan.run_times.samples) == (120.0, 2)
    assert as_json(plan)["finished_at"] == (plan.made_at + timedelta(seconds=240)).isoformat()
    file = next(Path(ledger.attempts).rglob("*.parquet"))  # noqa: ASYNC240 - nothing else runs here
    file.write_bytes(b"rubbish")
    with pytest.raises(LedgerError, match="not readable"):
        await make_plan(options(tmp_path, tmp_path / "m.csv"))


# ------------------------------------------------------------------------------------------------ the pledge


async def test_a_run_is_held_to_its_plan(tmp_path: Path, account: Account) -> None:
    """Another manifest, service, price or way of looking, and a file that is no plan: refused, nothing made."""
    manifest = write_manifest(tmp_path / "m.csv", 3)
    path = tmp_path / "plan.json"
    asked = options(tmp_path, manifest)
    await kept(asked, path)
    held = asked.model_copy(update={"plan": str(path)})
    await preflight(held)
    cheaper = tmp_path / "cheaper.toml"
    cheaper.write_text(
        '[[card]]\nservice = "emulator"\ncurrency = "USD"\nunit_price = { 720P = "0.09", 1080P = "0.15" }\n'
        'effective_from = 2026-01-01\nsource = "x"\nnoted = 2026-11-22\n'
    )
    for change, words in (
        ({"service": account.url}, "was made for emulator"),
        ({"rate_card": str(cheaper)}, "other prices"),
        ({"plan": str(tmp_path / "none.json")}, "No such file"),
        ({"plan": str(manifest)}, "is no plan"),
    ):
        with pytest.raises(UsageError, match=words):
            await preflight(held.model_copy(update=change))
    for text in (manifest.read_text().replace("clay 2", "ink 2"), reordered(manifest.read_text())):
        manifest.write_text(text)
        with pytest.raises(UsageError, match="has changed since"):
            await edit(held)
    await kept(asked, path)
    path.write_text(path.read_text().replace('"probed": false', '"probed": true'))
    with pytest.raises(UsageError, match="leave out --no-probe"):
        await edit(held)
    assert account.get("tasks")["tasks"] == []


def reordered(text: str) -> str:
    """Swap the last two rows."""
    *lines, one, two = text.splitlines(keepends=True)
    return "".join([*lines, two, one])


async def test_the_digest_is_of_the_rows_alone(tmp_path: Path) -> None:
    """Another format, which is read in other blocks, is the same manifest; another service for a row is not."""
    lines = [{"video": f"https://x.example.com/{number}.mp4", "service": ""} for number in range(6_000)]
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "m.parquet")
    rows(tmp_path / "m.csv", *lines)
    rows(tmp_path / "other.csv", *lines[:-1], lines[-1] | {"service": "beijing"})
    digests = [
        (await make_plan(options(tmp_path, tmp_path / name))).digest
        for name in ("m.csv", "m.parquet", "other.csv")
    ]
    assert digests[0] == digests[1] != digests[2]


async def test_a_new_signature_is_no_new_manifest(tmp_path: Path, account: Account) -> None:
    """URLs that were signed anew, and a run that was stopped and goes on, keep to the plan."""
    url = "https://x.example.com/{}.mp4?seconds=3.00&Expires=1&Signature="
    lines = [{"video": url.format(number) + "old", "resolution": "720P"} for number in range(3)]
    manifest, path = rows(tmp_path / "m.csv", *lines), tmp_path / "plan.json"
    await kept(options(tmp_path, manifest), path)
    asked = options(tmp_path, manifest, plan=str(path))
    assert (await edit(asked.model_copy(update={"limit": 1}))).exit_code is ExitCode.INCOMPLETE
    rows(manifest, *(line | {"video": line["video"].replace("old", "new")} for line in lines))
    assert (await edit(asked)).exit_code is ExitCode.OK
    assert len(account.bill()) == 3


async def test_the_worst_cost_is_the_budget(tmp_path: Path, account: Account) -> None:
    """A run spends no more than its plan says, unless a budget is named."""
    manifest, path = write_manifest(tmp_path / "m.csv", 6), tmp_path / "plan.json"
    plan = await kept(options(tmp_path, manifest), path)
    path.write_text(path.read_text().replace(f'"worst": "{plan.worst:f}"', '"worst": "3"', 1))
    asked = options(tmp_path, manifest, plan=str(path))
    summary = await edit(asked)
    assert summary.exit_code is ExitCode.INCOMPLETE
    assert "budget of 3 USD" in str(summary.reason)
    assert 0 < account.billed() <= 3
    assert (await edit(asked.model_copy(update={"budget": "100"}))).exit_code is ExitCode.OK


# -------------------------------------------------------------------------------------------- command line


def test_a_plan_needs_no_key_and_no_prefect(tmp_path: Path) -> None:
    """Without a key the command shows a plan, and keeps one, without loading Prefect."""
    write_manifest(tmp_path / "m.csv", 30, tag_team="red[/]")
    shown = command(tmp_path, "plan", "m.csv", "--no-probe", "--out", "plan.json")
    assert shown.returncode == ExitCode.OK, shown.stderr
    for words in ("30 new", "by team", "red[/]", "not looked at", "done about", "dearest", "70.70 USD"):
        assert words in shown.stdout
    assert json.loads((tmp_path / "plan.json").read_text())["new"]["worst"] == "70.700000"
    code = (
        "import sys, wanbatch.cli.commands as c\n"
        "try: c.app(['plan', 'm.csv', '--no-probe', '--json'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'prefect' not in sys.modules\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stdout)["counts"] == {"new": 30}


def test_what_can_t_be_planned_is_said_in_one_line(tmp_path: Path) -> None:
    """A bad manifest and a file that can't be written end with exit code 2 and no traceback."""
    bad = rows(tmp_path / "bad.csv", {"video": "https://x.example.com/v.mp4", "duration": "11"})
    ended = command(tmp_path, "plan", bad.name)
    assert (ended.returncode, "Traceback" in ended.stderr) == (ExitCode.USAGE, False)
    assert "row 1, duration" in ended.stderr
    write_manifest(tmp_path / "m.csv", 1)
    ended = command(tmp_path, "plan", "m.csv", "--no-probe", "--out", "bad.csv/plan.json")
    assert (ended.returncode, ended.stderr.count("\n")) == (ExitCode.USAGE, 1)
    assert "--out" in ended.stderr


def test_a_run_that_breaks_its_plan_ends_before_it_starts(tmp_path: Path) -> None:
    """`run --plan` with a manifest whose rows are for another service now says so, with exit code 2."""
    lines = [{"video": f"https://x.example.com/{number}.mp4", "service": ""} for number in range(2)]
    rows(tmp_path / "m.csv", *lines)
    assert command(tmp_path, "plan", "m.csv", "--no-probe", "--out", "plan.json").returncode == ExitCode.OK
    rows(tmp_path / "m.csv", *(line | {"service": "beijing"} for line in lines))
    words = ("run", "m.csv", "--no-probe", "--plan", "plan.json")
    ended = command(tmp_path, *words, **{KEY_VARIABLE: "sk-any"})
    assert (ended.returncode, ended.stderr.count("\n")) == (ExitCode.USAGE, 1)
    assert "plan.json: m.csv has changed since" in ended.stderr
    assert names(tmp_path).count("ledger") == 0


async def test_a_bad_manifest_has_no_plan(tmp_path: Path) -> None:
    """Every bad row is named at once, as `check` names them."""
    bad = rows(tmp_path / "bad.csv", *({"video": "https://x/v.mp4", "duration": "11"} for _ in range(3)))
    with pytest.raises(ManifestError) as caught:
        await make_plan(options(tmp_path, bad))
    assert [problem.row for problem in caught.value.problems] == [1, 2, 3]


async def test_what_is_found_wrong_last_refuses_the_whole_plan(tmp_path: Path) -> None:
    """Ids that are there twice and a bad row at the end are found, and nothing is fetched or made before."""
    lines = [
        {"video": f"https://x.example.com/{number}.mp4", "id": f"{number % 12_000}"}
        for number in range(12_001)
    ]
    bad = rows(tmp_path / "bad.csv", *lines, {"video": "https://x.example.com/v.mp4", "duration": "11"})
    for probe in (False, True):
        with pytest.raises(ManifestError) as caught:
            await make_plan(options(tmp_path, bad, probe=probe))
        assert [(problem.row, problem.column) for problem in caught.value.problems] == [
            (12_001, "id"),
            (12_002, "duration"),
        ]
    assert names(tmp_path) == ["bad.csv"]
