"""What was spent: grouped as asked, exact, in one currency at a time, and harmless in every format."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.rows import a_batch, a_row
from wanbatch.cli.commands import app
from wanbatch.errors import LedgerError, StorageError, UsageError
from wanbatch.ledger import Ledger, add_up
from wanbatch.report.formats import Sheet, as_csv, as_json, as_markdown
from wanbatch.report.period import Period, read_period
from wanbatch.report.spending import spending

if TYPE_CHECKING:
    from pathlib import Path

TODAY = date(2026, 11, 22)
ROWS = [
    a_row("1", tags={"film": "a"}),
    a_row("2", status="failed", code="InternalError", cost="0", billed_s="0", queue_s=1.5, run_s=60.25),
    a_row("2", attempt=2, settled_at="2026-11-23T01:00:00+00:00"),
    a_row("3", status="expired", cost=None, billed_s=None, queue_s=None, settled_at="2026-12-01T00:00:00Z"),
    a_row(
        "4",
        service="beijing",
        currency="CNY",
        unit_price="0.6",
        cost="6.024",
        resolution="1080P",
        run_id="run-2",
    ),
]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Give a ledger of two services, two runs, three days, a retry and an unknown cost."""
    ledger = Ledger(tmp_path / "ledger")
    ledger.write_batch(a_batch("b", *ROWS))
    return ledger


def costs(
    ledger: Ledger, *by: str, period: Period | None = None, run_id: str | None = None
) -> dict[Any, Any]:
    """Give what each group cost."""
    found = spending(ledger, by, period or Period(), run_id=run_id)
    return {(*spent.group.values(), spent.currency): spent.cost for spent in found.groups}


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("day", {"2026-11-22": "1.004", "2026-11-23": "1.004", "2026-12-01": None}),
        ("week", {"2026-W47": "1.004", "2026-W48": "1.004", "2026-W49": None}),
        ("month", {"2026-11": "2.008", "2026-12": None}),
        ("service", {"singapore": "2.008"}),
        ("resolution", {"720P": "2.008"}),
        ("status", {"succeeded": "2.008", "failed": "0", "expired": None}),
        ("code", {None: "2.008", "InternalError": "0"}),
        ("run", {"run-1": "2.008"}),
        ("tag:film", {"a": "1.004", "y": "1.004"}),
        ("tag:none", {None: "2.008"}),
    ],
)
def test_each_grouping(ledger: Ledger, by: str, expected: dict[str | None, str | None]) -> None:
    """Every grouping sums what belongs together; what has no value is a group; unknown is not 0."""
    dollars = {group: cost for (group, currency), cost in costs(ledger, by).items() if currency == "USD"}
    assert dollars == {group: cost and Decimal(cost) for group, cost in expected.items()}


def test_currencies_are_never_added(ledger: Ledger) -> None:
    """Even without any grouping there is a sum for each currency."""
    assert costs(ledger) == {("CNY",): Decimal("6.024"), ("USD",): Decimal("2.008")}
    yuan, dollars = spending(ledger, ["day", "status"], Period()).totals
    assert (yuan.currency, yuan.attempts, yuan.cost) == ("CNY", 1, Decimal("6.024"))
    assert (dollars.attempts, dollars.unknown_cost, dollars.billed_s) == (4, 1, Decimal("20.08"))


def test_retries_and_lost_time(ledger: Ledger) -> None:
    """Attempts beyond the first are counted, and the slot time of those that gave no result."""
    dollars = spending(ledger, [], Period()).totals[-1]
    assert dollars.retries == 1
    assert dollars.lost_s == Decimal("61.75")


def test_a_run_alone(ledger: Ledger) -> None:
    """One run can be looked at; one that is not there is an error."""
    assert costs(ledger, run_id="run-2") == {("CNY",): Decimal("6.024")}
    with pytest.raises(LedgerError, match="of run run-9"):
        costs(ledger, run_id="run-9")


@pytest.mark.parametrize(
    ("since", "until", "attempts"),
    [
        ("2026-11-23", None, 2),
        (None, "2026-11-22", 3),
        ("2026-11-23", "2026-11-30", 1),
        ("1d", None, 5),
        (None, "1d", 0),
    ],
)
def test_a_period_is_whole_days(ledger: Ledger, since: str | None, until: str | None, attempts: int) -> None:
    """The first and the last day belong to it, in UTC."""
    period = read_period(since, until, today=TODAY)
    if attempts:
        found = spending(ledger, [], period)
        assert sum(total.attempts for total in found.totals) == attempts
    else:
        with pytest.raises(LedgerError, match="no attempts until 2026-11-21"):
            spending(ledger, [], period)


def test_days_back_include_today() -> None:
    """Since 7d are the last seven days, and until 7d ends right before them."""
    assert read_period("7d", None, today=TODAY) == Period(since=date(2026, 11, 16))
    assert read_period("14d", "7d", today=TODAY) == Period(date(2026, 11, 9), date(2026, 11, 15))


@pytest.mark.parametrize(
    "text", ["", " ", "0d", "d", "7w", "99999999d", "99999d", "2026-13-01", "x", "9999-12-31"]
)
def test_what_is_no_day_is_refused(text: str) -> None:
    """A wrong day is a usage error that shows the two ways to write one."""
    with pytest.raises(UsageError, match=r"2026-11-01.*7d"):
        read_period(text or "-", None, today=TODAY)
    with pytest.raises(UsageError):
        read_period("2026-11-02", "2026-11-01", today=TODAY)


@pytest.mark.parametrize("name", ["", "tag:", "prompt", "Day", "tag"])
def test_an_unknown_grouping_is_refused(ledger: Ledger, name: str) -> None:
    """The groupings there are, are listed."""
    with pytest.raises(UsageError, match="day, week, month"):
        spending(ledger, [name], Period())


ATTEMPT = st.tuples(
    st.sampled_from(["USD", "CNY", None]),
    st.none() | st.decimals(0, 999_999_999_999, places=6),
    st.integers(0, 40),
    st.none() | st.text(max_size=3),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(attempts=st.lists(ATTEMPT, min_size=1, max_size=15))
def test_sums_are_those_of_python(tmp_path_factory: pytest.TempPathFactory, attempts: list[Any]) -> None:
    """By month and tag, sums in Arrow are the exact sums of the rows, however large."""
    ledger = Ledger(tmp_path_factory.mktemp("ledger"))
    expected: dict[Any, list[Decimal | None]] = defaultdict(list)
    rows = []
    for number, (currency, cost, days, tag) in enumerate(attempts):
        at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=days)
        tags = {} if tag is None else {"t": tag}
        rows.append(a_row(str(number), currency=currency, cost=cost, settled_at=at.isoformat(), tags=tags))
        expected[f"{at:%Y-%m}", tag, currency].append(cost)
    ledger.write_batch(a_batch("b", *rows))
    known = {group: [cost for cost in found if cost is not None] for group, found in expected.items()}
    assert costs(ledger, "month", "tag:t") == {
        group: sum(found) if found else None for group, found in known.items()
    }


# ------------------------------------------------------------------------------------------------------ formats

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", "\x00=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_a_csv_starts_a_formula(text: str) -> None:
    """Names and values that a spreadsheet would compute stay text."""
    written = as_csv(Sheet((text, "cost"), ((text, None),)))
    for row in csv.reader(io.StringIO(written)):
        assert row[0].startswith("'")


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=20))
def test_any_text_is_one_cell(text: str) -> None:
    """Whatever it is, it stays in its cell, in every format."""
    sheet = Sheet(("a", "b"), ((text, 1), ("x", 2)))
    rows = list(csv.reader(io.StringIO(as_csv(sheet))))
    assert [len(row) for row in rows] == [2, 2, 2]
    assert not rows[1][0].lstrip().startswith(("=", "+", "-", "@"))
    assert json.loads(as_json(sheet))[1] == {"a": "x", "b": 2}
    lines = as_markdown(sheet).splitlines()
    assert len(lines) == 4
    assert lines[2].count("|") - lines[2].count(r"\|") == 3


def test_what_is_not_known_is_never_nought() -> None:
    """A cost that is not known says so, or is null."""
    sheet = Sheet(("code", "cost"), ((None, None), ("c", Decimal("0.000000"))))
    assert as_csv(sheet) == "code,cost\n,unknown\nc,0\n"
    assert json.loads(as_json(sheet)) == [{"code": None, "cost": None}, {"code": "c", "cost": "0"}]
    assert as_markdown(sheet) == "| code | cost |\n| --- | ---: |\n|  | unknown |\n| c | 0 |\n"


def test_markup_is_shown_and_not_obeyed() -> None:
    """Links, code and HTML in a tag are only text in Markdown."""
    line = as_markdown(Sheet(("t",), (("[a](javascript:x) <b> `c`",),))).splitlines()[-1]
    assert line == r"| \[a\](javascript:x) &lt;b&gt; \`c\` |"


# -------------------------------------------------------------------------------------------------- the command


def run(*arguments: str) -> tuple[int, str]:
    """Run the command line; gives its exit code and what it printed."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_the_report_of_a_ledger(ledger: Ledger) -> None:
    """Without options it is by service, size and outcome, with the sums of each currency below."""
    code, text = run("report", "--ledger", ledger.where)
    assert code == 0
    lines = text.splitlines()
    assert lines[0].split() == ["service", "size", "outcome", "attempts", "billed", "s", "cost"]
    assert lines[1].split() == ["beijing", "1080P", "succeeded", "1", "10.04", "6.024", "CNY"]
    assert lines[2].split() == ["singapore", "720P", "expired", "1", "1", "unknown"]
    assert lines[-1] == (
        "4 attempts, billed 20.08 s, cost 2.008 USD + 1 unknown; 1 of them retries; "
        "those without a result held slots for 1 min"
    )


def test_a_report_into_a_file(ledger: Ledger, tmp_path: Path) -> None:
    """Every format can go into a file, and is what would have been printed."""
    for form in ("table", "csv", "json", "markdown"):
        usual = ("report", "--ledger", ledger.where, "--by", "month", "--format", form)
        _, printed = run(*usual)
        assert run(*usual, "--out", str(tmp_path / form)) == (0, "")
        assert (tmp_path / form).read_text(encoding="utf-8") == printed
    with pytest.raises(StorageError, match="another --out"):
        run("report", "--ledger", ledger.where, "--out", str(tmp_path))


def test_json_for_machines(ledger: Ledger) -> None:
    """`--json` is the format json; amounts are exact text."""
    code, text = run("report", "--ledger", ledger.where, "--run", "run-2", "--json")
    assert code == 0
    (row,) = json.loads(text)
    assert (row["service"], row["cost"], row["currency"]) == ("beijing", "6.024", "CNY")


def test_an_unknown_format_is_refused(ledger: Ledger) -> None:
    """The formats there are, are listed."""
    with pytest.raises(UsageError, match="table, csv, json, markdown, focus"):
        run("report", "--ledger", ledger.where, "--format", "pdf")


def test_the_upkeep_commands(ledger: Ledger) -> None:
    """Verifying ends in 0 when all is in order, else in 3 with a line a finding; compacting says what it did."""
    place = ("--ledger", ledger.where)
    code, text = run("ledger", "verify", *place)
    assert code == 3
    assert len(text.splitlines()) == 4
    for run_id in ("run-1", "run-2"):
        ledger.write_totals(run_id, add_up(run_id, [row for row in ROWS if row["run_id"] == run_id]))
    ledger.write_batch(a_batch("b2", a_row("5", run_id="run-3")))
    ledger.write_totals("run-3", add_up("run-3", [a_row("5")]))
    assert run("ledger", "compact", *place) == (0, "merged 1 day: 4 files became 3\n")
    assert run("ledger", "compact", *place) == (0, "nothing to merge: 3 files\n")
    assert run("ledger", "verify", *place) == (0, "")
    assert run("ledger", "verify", "--outputs", *place)[0] == 3
