"""The ledger against a bill: agreement to the last decimal, and an explanation for every difference."""

from __future__ import annotations

import csv
import io
import json
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import options, write_manifest
from tests.rows import a_batch, a_row
from tests.test_report import run
from tests.test_walk import edit
from wanbatch.errors import UsageError
from wanbatch.ledger import Ledger
from wanbatch.report.against import Why, compare
from wanbatch.report.bill import Charge, read_bill
from wanbatch.report.period import Period

if TYPE_CHECKING:
    from tests.conftest import Account

SAMPLE = Path(__file__).parent / "samples" / "bill.csv"
DAY = date(2026, 11, 22)
MODEL = "wan2.7-videoedit"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Give a ledger of two paid edits, one that failed, and one of unknown cost."""
    ledger = Ledger(tmp_path / "ledger")
    rows = [
        a_row("1"),
        a_row("2", ended_at="2026-11-22T23:59:59Z", settled_at="2026-11-23T00:00:01Z"),
        a_row("3", status="failed", cost="0", billed_s="0"),
        a_row("4", status="expired", cost=None, billed_s=None),
    ]
    ledger.write_batch(a_batch("b", *rows))
    return ledger


def a_charge(task: str | None, **changed: Any) -> Charge:
    """Make the charge of an edit as the ledger has it, but for what is changed."""
    usual: dict[str, Any] = {
        "day": DAY,
        "model": MODEL,
        "task_id": task and f"task-{task}",
        "billed_s": Decimal("10.04"),
        "unit_price": Decimal("0.10"),
        "currency": "USD",
        "cost": Decimal("1.0040"),
    }
    return Charge(**{**usual, **changed})


KNOWN = a_charge("4", billed_s=Decimal(8), cost=Decimal("0.8"))
"""What the edit of unknown cost came to."""


def found(
    ledger: Ledger, *charges: Charge, period: Period | None = None
) -> dict[str | None, tuple[Why, ...]]:
    """Compare; gives why each task differs."""
    comparison = compare(ledger, charges, period or Period())
    return {one.entry.task_id: one.why for one in comparison.differences}


# ------------------------------------------------------------------------------------------------- comparing


def test_what_agrees_has_no_difference(ledger: Ledger) -> None:
    """Seconds, prices and costs that are the same numbers agree; a free failure need not be on the bill."""
    assert found(ledger, a_charge("1"), a_charge("2"), KNOWN) == {"task-4": (Why.UNKNOWN_COST,)}
    (sums,) = compare(ledger, [a_charge("1"), a_charge("2"), KNOWN], Period()).sums
    assert (sums.ledger, sums.bill, sums.unknown) == (Decimal("2.008"), Decimal("2.808"), 1)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"billed_s": Decimal(11), "cost": Decimal("1.1")}, (Why.SECONDS,)),
        ({"unit_price": Decimal("0.15"), "cost": Decimal("1.506")}, (Why.PRICE,)),
        (
            {"billed_s": Decimal(11), "unit_price": Decimal("0.15"), "cost": Decimal("1.65")},
            (Why.SECONDS, Why.PRICE),
        ),
        ({"cost": Decimal("1.0040000001")}, (Why.COST,)),
        ({"currency": "CNY"}, (Why.CURRENCY,)),
        ({"billed_s": None, "unit_price": None}, None),
    ],
)
def test_each_difference_has_its_reason(
    ledger: Ledger, changed: dict[str, Any], why: tuple[Why, ...] | None
) -> None:
    """What differs is named; what the bill does not say can't differ."""
    assert found(ledger, a_charge("1", **changed), a_charge("2"), KNOWN).get("task-1") == why


def test_what_one_side_alone_has(ledger: Ledger) -> None:
    """A task nobody asked for, an edit that was not billed, a failure that was, and one that turned out free."""
    assert found(ledger, a_charge("1"), a_charge("3"), a_charge("9")) == {
        "task-2": (Why.ONLY_IN_LEDGER,),
        "task-3": (Why.SECONDS,),
        "task-4": (Why.UNKNOWN_COST,),
        "task-9": (Why.ONLY_ON_BILL,),
    }


def test_the_lines_of_a_task_are_added(ledger: Ledger) -> None:
    """A task billed in parts, or twice and refunded once, is what its lines come to."""
    half = a_charge("1", billed_s=Decimal("5.02"), cost=Decimal("0.502"))
    refund = a_charge("2", billed_s=Decimal("-10.04"), cost=Decimal("-1.004"))
    lines = [half, half, a_charge("2"), a_charge("2"), refund, KNOWN]
    assert found(ledger, *lines) == {"task-4": (Why.UNKNOWN_COST,)}


def test_a_bill_by_day_is_compared_by_day(tmp_path: Path) -> None:
    """Lines without a task stand for all edits of that day, model and currency that no line names."""
    ledger = Ledger(tmp_path / "ledger")
    ledger.write_batch(a_batch("b", a_row("1"), a_row("2"), a_row("3", currency="CNY")))
    whole = a_charge(None, billed_s=Decimal("20.08"), cost=Decimal("2.008"))
    yuan = a_charge(None, currency="CNY")
    assert found(ledger, whole, yuan) == {}
    assert found(ledger, a_charge("1"), a_charge(None), yuan) == {}
    (one,) = compare(ledger, [a_charge(None), yuan], Period()).differences
    assert (one.why, one.ledger and one.ledger.cost) == ((Why.SECONDS,), Decimal("2.008"))
    assert found(ledger, whole, yuan, a_charge(None, day=DAY + timedelta(days=1))) == {
        None: (Why.ONLY_ON_BILL,)
    }


def test_a_period_has_no_edges(ledger: Ledger) -> None:
    """An edit that ended before midnight and was booked after it belongs to both sides, or to neither."""
    day = Period(DAY, DAY)
    assert found(ledger, a_charge("1"), a_charge("2"), KNOWN, period=day) == {"task-4": (Why.UNKNOWN_COST,)}
    late = a_charge("2", day=DAY + timedelta(days=1))
    assert "task-2" not in found(ledger, late, period=Period(since=DAY))
    assert found(ledger, late, a_charge("9"), period=Period(until=DAY - timedelta(days=1))) == {}


# --------------------------------------------------------------------------------------------------- reading


def a_file(folder: Path, text: str) -> Path:
    """Write a bill."""
    path = folder / "bill.csv"
    path.write_bytes(text.encode())
    return path


def test_the_sample_of_the_documentation(tmp_path: Path) -> None:
    """The documented columns are read as they are documented, and a line without a task is one of a day."""
    first, *_, last = read_bill(SAMPLE)
    assert first == a_charge("1", day=DAY)
    assert last == a_charge(None, billed_s=Decimal(120), cost=Decimal(18), unit_price=Decimal("0.15"))
    ledger = Ledger(tmp_path / "ledger")
    ledger.write_batch(a_batch("b", a_row("1")))
    code, text = run("report", "--ledger", ledger.where, "--against", str(SAMPLE), "--json")
    assert code == 3
    assert [row["why"] for row in json.loads(text)] == ["only on the bill", "only on the bill"]


@pytest.mark.parametrize(
    "header",
    [
        "Task ID,Billing Date,Model Name,Usage (s),List Price,Currency,Pretax Amount",
        "\ufefftask_id;DATE;model;Billed Seconds;Unit-Price;currency;cost",
        "task\tEnd Time\tMODEL\tduration\tprice [USD/s]\tBilling currency\tAmount",
    ],
)
def test_headers_go_by_many_names(tmp_path: Path, header: str) -> None:
    """Case, spaces, units, a byte order mark and the separator don't matter, nor other columns."""
    mark = next(mark for mark in ";\t," if mark in header)
    values = ["task-1", "2026-11-23T01:00:00+08:00", MODEL, "10.04", "0.1", "usd", "1.004"]
    text = f"{header}{mark}Product\r\n{mark.join(values)}{mark}x\r\n\r\n"
    assert read_bill(a_file(tmp_path, text)) == [a_charge("1")]


USUAL = {"day": "2026-11-22", "model": MODEL, "task": "t", "currency": "USD", "cost": "1"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cost": ""}, "line 2: cost is empty"),
        ({"cost": "1.00 USD"}, "line 2: cost '1.00 USD' is no amount"),
        ({"cost": "=1+1"}, "no amount"),
        ({"cost": "NaN"}, "no amount"),
        ({"cost": "9" * 40}, "no amount"),
        ({"cost": "1e3"}, "no amount"),
        ({"currency": "$"}, "no currency code"),
        ({"day": "22.11.2026"}, "line 2: day '22.11.2026' is no day"),
        ({"day": "0001-01-01T00:00:00+05:00"}, "no day"),
        ({"task": "", "model": ""}, "neither a task nor a model"),
        ({"seconds": "1", "usage": "2"}, "'seconds' and 'usage' both give billed_s"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, changed: dict[str, str], words: str) -> None:
    """Nothing on a bill is guessed at: the line, the column and the value are named, in one line."""
    cells = USUAL | changed
    text = io.StringIO()
    csv.writer(text).writerows([cells.keys(), cells.values()])
    with pytest.raises(UsageError) as caught:
        read_bill(a_file(tmp_path, text.getvalue()))
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\xff\xfe\x00", b"a,b\n1,2\n", b"\x89PNG\r\n", b'day,cost,currency\n"']
)
def test_what_is_no_bill_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file without the needed columns, or that is no CSV, is a usage error."""
    path = tmp_path / "bill.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"bill\.csv"):
        read_bill(path)
    with pytest.raises(UsageError, match="give the bill's file"):
        read_bill(tmp_path)


@settings(max_examples=50, deadline=None)
@given(cost=st.decimals(-999_999_999, 999_999_999, places=4), grouped=st.booleans())
def test_amounts_are_read_exactly(
    tmp_path_factory: pytest.TempPathFactory, cost: Decimal, *, grouped: bool
) -> None:
    """To the last decimal, with thousands in groups or not."""
    text = f'day,model,currency,cost\n2026-11-22,m,USD,"{cost:{"," if grouped else ""}f}"\n'
    (charge,) = read_bill(a_file(tmp_path_factory.mktemp("bill"), text))
    assert charge.cost == cost


# ------------------------------------------------------------------------------------------------ the command


async def test_the_emulators_bill_agrees(account: Account, tmp_path: Path) -> None:
    """After a run, the emulator's own bill and the ledger agree; one charge more is found."""
    await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 6)))
    lines = [{name: str(value) for name, value in row.items()} for row in account.bill()]
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0])
    writer.writeheader()
    writer.writerows(lines)
    command = ("report", "--ledger", str(tmp_path / "ledger"), "--against")
    code, told = run(*command, str(a_file(tmp_path, text.getvalue())))
    assert (code, told.splitlines()[-1]) == (0, "the ledger and the bill agree")
    writer.writerow({**lines[0], "task_id": "another"})
    code, told = run(*command, str(a_file(tmp_path, text.getvalue())), "--format", "csv")
    assert code == 3
    (row,) = csv.DictReader(io.StringIO(told))
    assert (row["task_id"], row["why"], row["ledger_cost"]) == ("another", "only on the bill", "")


def test_differences_are_shown_with_both_sides(ledger: Ledger, tmp_path: Path) -> None:
    """The table has what each side says and the sums; an unknown cost says so."""
    path = a_file(
        tmp_path,
        "task,day,model,seconds,price,currency,cost\n"
        f"task-1,2026-11-22,{MODEL},11,0.1,USD,1.1\ntask-4,2026-11-22,=x,8,0.1,USD,0.8\n",
    )
    code, text = run("report", "--ledger", ledger.where, "--against", str(path))
    assert code == 3
    assert "other seconds" in text
    assert "10.04 s at 0.1: 1.004 USD" in text
    assert text.splitlines()[-2:] == ["ledger 2.008 USD + 1 unknown, bill 1.90 USD", "3 differences"]
    code, text = run("report", "--ledger", ledger.where, "--against", str(path), "--since", "2030-01-01")
    assert (code, text.strip()) == (0, "neither the ledger nor the bill has anything")
    _, text = run("report", "--ledger", ledger.where, "--against", str(path), "--format", "csv")
    rows = {row["task_id"]: row for row in csv.DictReader(io.StringIO(text))}
    assert rows["task-4"]["ledger_cost"] == "unknown"
    assert rows["task-2"]["bill_cost"] == ""
