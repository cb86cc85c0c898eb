from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from tests.browser import Tab, new_tab
from tests.rows import a_batch, a_row
from wanbatch.cli.commands import app
from wanbatch.errors import LedgerError
from wanbatch.ledger import Ledger
from wanbatch.report import sums
from wanbatch.report.html import embed, page, plain, write_page
from wanbatch.report.stills import still

EVIL = "</script><img src=x onerror=alert(1)>\u2028<!--<script>&amp;{{data}}"
START = datetime(2026, 11, 1, 10, tzinfo=UTC)


def a_clip(path: Path, colour: int) -> Path:
    """Write a short clip of one grey."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for _ in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((360, 640, 3), colour, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def many(count: int) -> list[dict[str, Any]]:
    """Give rows of a few days in two currencies, with all outcomes; every hundredth prompt is hostile."""
    rows = []
    for number in range(count):
        submitted = START + timedelta(minutes=number)
        scheduled, ended = submitted + timedelta(seconds=number % 40), submitted + timedelta(seconds=200)
        outcome = "failed" if number % 10 == 3 else "refused" if number % 100 == 7 else "succeeded"
        paid = outcome == "succeeded"
        rows.append(
            a_row(
                f"clip-{number:05}",
                prompt=EVIL if number % 100 == 0 else f"make it clay {number}",
                status=outcome,
                code=None if paid else "InternalError",
                message=None if paid else f"broke <b>{EVIL}</b>",
                resolution="1080P" if number % 4 == 0 else "720P",
                currency="CNY" if number % 5 == 0 else "USD",
                billed_s="10.04" if paid else "0",
                cost="1.004001" if paid else "0",
                submitted_at=submitted.isoformat(),
                scheduled_at=scheduled.isoformat(),
                ended_at=ended.isoformat(),
                settled_at=(ended + timedelta(seconds=3)).isoformat(),
                queue_s=float(number % 40),
                run_s=200.0 - number % 40,
                tags={"team": f"team {number % 30}", EVIL: "yes"},
            )
        )
    return rows


def kept(folder: Path, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Give rows as a ledger on disk gives them back."""
    Ledger(folder).write_batch(a_batch("b", *rows))
    read: list[dict[str, Any]] = Ledger(folder).read_attempts().to_pylist()
    return read


def data_of(text: str) -> list[dict[str, Any]]:
    """Read the attempts out of a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    items: list[dict[str, Any]] = json.loads(found[1])["items"]
    return items


@given(
    st.recursive(st.text() | st.just(EVIL), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_nothing_ends_the_data(value: object) -> None:
    """Whatever text there is comes back the same, and holds nothing that could end the script element."""
    written = embed(value)
    assert json.loads(written) == value
    assert not set(written) & set("<>&\u2028\u2029")


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "0.00"), ("1.004000", "1.004"), ("1234567.5", "1,234,567.50"), ("1E+3", "1,000.00")],
)
def test_amounts_are_exact(amount: str, text: str) -> None:
    """Amounts keep every digit that counts and two places at least."""
    assert plain(Decimal(amount)) == text


def test_charts_add_up_to_the_ledger(tmp_path: Path) -> None:
    """Each chart of money or counts holds all attempts, to the last millionth."""
    rows = kept(tmp_path, *many(300))
    assert sums.currencies(rows) == ["CNY", "USD"]
    for currency in ("CNY", "USD"):
        paid = sum((row["cost"] for row in rows if row["currency"] == currency), Decimal(0))
        by_tag = sums.spend_by_tag(rows, currency)
        assert sum(one.cost for one in sums.spend_over_time(rows, currency)) == paid
        assert [sum(one.cost for one in values) for values in by_tag.values()] == [paid, paid]
    assert sums.spend_by_tag(rows, "USD")["team"][-1].name == "12 others"
    assert sum(one.attempts for one in sums.outcomes(rows)) == len(rows)
    assert sum(one.attempts for one in sums.histogram(row["queue_s"] for row in rows)) == len(rows)
    assert sum(count for *_, count in sums.failures(rows)) == 33


@pytest.mark.parametrize(("days", "last"), [(0, "01 Nov 10:00"), (3, "04 Nov 2026"), (200, "May 2027")])
def test_time_has_no_gaps(tmp_path: Path, days: int, last: str) -> None:
    """Spending is by hour, day or month as the span asks, and what is between is there, empty or not."""
    ends = (START, START + timedelta(days=days))
    rows = kept(tmp_path, *(a_row(f"{n}", settled_at=end.isoformat()) for n, end in enumerate(ends)))
    spent = sums.spend_over_time(rows, "USD")
    assert (spent[0].cost > 0, spent[-1].name) == (True, last)
    assert len(spent) == {0: 1, 3: 4, 200: 7}[days]


def test_slots_are_the_mean_of_what_ran(tmp_path: Path) -> None:
    """Edits side by side count together, and an edit of half the time counts for that half."""
    half, whole = START + timedelta(hours=1), START + timedelta(hours=2)
    rows = kept(
        tmp_path,
        a_row("a", scheduled_at=START.isoformat(), ended_at=whole.isoformat()),
        a_row("b", scheduled_at=START.isoformat(), ended_at=half.isoformat()),
    )
    means = [mean for _, mean in sums.slots(rows)]
    assert means == pytest.approx([2.0] * 48 + [1.0] * 48)


@given(st.lists(st.floats(0, 1e6) | st.none(), max_size=50))
def test_a_histogram_loses_nothing(values: list[float | None]) -> None:
    """Every known value is in one bin, and there are never many bins."""
    bins = sums.histogram(values)
    assert sum(one.attempts for one in bins) == len([value for value in values if value is not None])
    assert len(bins) <= 13


def test_pictures_come_from_local_videos_only(tmp_path: Path) -> None:
    """A local clip gives a small JPEG of its picture; what is no video, is elsewhere or is missing gives none."""
    uri = still(str(a_clip(tmp_path / "grey.mp4", 200)))
    assert uri is not None
    picture = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))
    assert picture.size == (320, 180)
    assert abs(picture.convert("L").getpixel((160, 90)) - 200) < 6  # type: ignore[operator] # one band: a number
    playlist = tmp_path / "playlist.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'grey.mp4'}\n#EXT-X-ENDLIST\n")
    elsewhere = "https://media.example.com/v.mp4"
    assert [still(video) for video in (None, str(playlist), str(tmp_path / "none.mp4"), elsewhere)] == [
        None
    ] * 4


def test_so_many_pictures_and_no_more(tmp_path: Path) -> None:
    """The latest successes get pictures, as many as asked; a failure gets none."""
    clip, other = str(a_clip(tmp_path / "a.mp4", 40)), str(a_clip(tmp_path / "b.mp4", 90))
    settled = [(START + timedelta(hours=number)).isoformat() for number in range(4)]
    rows = [a_row(f"{n}", video=clip, output=other, settled_at=at) for n, at in enumerate(settled)]
    rows[3] |= {"status": "failed", "output": None}
    items = {item["id"]: item for item in data_of(page(kept(tmp_path / "ledger", *rows), stills=2))}
    assert [number for number in "0123" if "after" in items[number]] == ["1", "2"]
    assert items["1"]["before"] != items["1"]["after"]


def test_the_page_is_whole_or_not_there(tmp_path: Path) -> None:
    """A page that can't be written is one clear error and leaves nothing behind."""
    with pytest.raises(LedgerError, match="No such file or directory"):
        write_page([], tmp_path / "missing" / "p.html")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_both(tmp_path: Path) -> None:
    """`wanbatch report` writes the page and the FOCUS rows of one run, and says so."""
    kept(tmp_path / "ledger", a_row("a"), a_row("b", run_id="run-2"), a_row("c", run_id="run-2", cost=None))
    asked = ["report", "--ledger", str(tmp_path / "ledger"), "--run", "run-2"]
    html = CliRunner().invoke(app, [*asked, "--html", str(tmp_path / "p.html"), "--stills", "0"])
    focus = CliRunner().invoke(app, [*asked, "--format", "focus", "--out", str(tmp_path / "f.csv")])
    assert (html.exit_code, focus.exit_code) == (0, 0)
    assert Counter(item["id"] for item in data_of((tmp_path / "p.html").read_text())) == {"b": 1, "c": 1}
    assert len((tmp_path / "f.csv").read_text().splitlines()) == 2
    assert "left out 1 attempt of unknown cost" in focus.output


def test_both_keep_to_a_period(tmp_path: Path) -> None:
    """`--since` and `--until` leave out of the page and of the FOCUS rows what settled on other days."""
    days = [f"2026-11-{day}T10:05:00+00:00" for day in (20, 21, 22)]
    kept(tmp_path / "ledger", *(a_row(f"{number}", settled_at=day) for number, day in enumerate(days)))
    asked = ["report", "--ledger", str(tmp_path / "ledger"), "--since", "2026-11-21", "--until", "2026-11-21"]
    for more in (
        ["--html", str(tmp_path / "p.html")],
        ["--format", "focus", "--out", str(tmp_path / "f.csv")],
    ):
        assert CliRunner().invoke(app, [*asked, *more]).exit_code == 0
    assert [item["id"] for item in data_of((tmp_path / "p.html").read_text())] == ["1"]
    assert "task-1" in (tmp_path / "f.csv").read_text()
    assert "task-2" not in (tmp_path / "f.csv").read_text()


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    """Give a tab of a fresh browser."""
    async with new_tab(tmp_path / "profile") as opened:
        yield opened


async def cards(tab: Tab) -> int:
    """Count the attempts on show."""
    shown: int = await tab.value("document.querySelectorAll('.item').length")
    return shown


@pytest.mark.slow
@pytest.mark.xdist_group("browser")
async def test_a_browser_shows_five_thousand(tmp_path: Path, tab: Tab) -> None:
    """5,000 attempts open a page at a time; filters, order and pages work; nothing leaves the machine."""
    write_page(kept(tmp_path / "ledger", *many(5000)), tmp_path / "p.html")
    await tab.open(tmp_path / "p.html")
    found = "document.getElementById('found').textContent"
    assert await cards(tab) == 60
    assert await tab.value(found) == "5,000 of 5,000 attempts · 1,004.001 CNY · 3,463.80345 USD"
    assert await tab.value("document.getElementById('where').textContent") == "Page 1 of 84"
    bars = (
        "[...document.querySelectorAll('.chart rect.bar')].filter((b) => b.getBoundingClientRect().width > 0)"
    )
    assert await tab.value(f"{bars}.length") > 100

    await tab.type("text", "CLAY 123")
    said = "15 of 5,000 attempts · 2.008002 CNY · 7.028007 USD"
    assert (await cards(tab), await tab.value(found)) == (15, said)
    await tab.choose("status", "failed")
    assert await cards(tab) == 6
    await tab.value("document.querySelector('button[type=reset]').click()")
    await tab.value("new Promise(setTimeout)")
    await tab.choose("resolution", "1080P")
    await tab.choose("tag", "team: team 4")
    assert (await tab.value(found)).startswith("84 of 5,000")
    await tab.value("document.getElementById('on').click()")
    assert await cards(tab) == 24

    assert tab.troubles() == []
    assert tab.requested() <= {"file", "data"}


@pytest.mark.slow
@pytest.mark.xdist_group("browser")
async def test_a_browser_runs_nothing_that_came_from_outside(tmp_path: Path, tab: Tab) -> None:
    """A prompt, tag or message full of markup shows as text: no element, no dialog, no request comes of it."""
    clip = str(a_clip(tmp_path / "a.mp4", 90))
    hostile = {
        "prompt": EVIL,
        "id": EVIL,
        "video": clip,
        "output": clip,
        "tags": {EVIL: EVIL},
        "run_id": EVIL,
    }
    failed = {"status": "failed", "output": None, "code": EVIL, "message": EVIL}
    write_page(
        kept(tmp_path / "ledger", a_row("a", **hostile), a_row("b", **hostile | failed)), tmp_path / "p.html"
    )
    await tab.open(tmp_path / "p.html")
    assert await cards(tab) == 2
    assert await tab.value("document.querySelector('.prompt').textContent") == EVIL
    assert await tab.value("document.querySelector('.wide td:nth-child(4)').textContent") == EVIL
    assert await tab.value("document.scripts.length") == 2
    sources = "[...document.images].map((image) => image.src.slice(0, 15) + image.naturalWidth)"
    assert await tab.value(sources) == ["data:image/jpeg320"] * 2
    assert tab.troubles() == []
    assert tab.requested() <= {"file", "data"}


@pytest.mark.slow
@pytest.mark.xdist_group("browser")
async def test_the_page_allows_itself_no_more_than_it_needs(tmp_path: Path, tab: Tab) -> None:
    """A script that is added later does not run, and a request that is tried does not leave."""
    write_page(kept(tmp_path / "ledger", a_row("a")), tmp_path / "p.html")
    await tab.open(tmp_path / "p.html")
    assert tab.troubles() == []
    await tab.value(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
    )
    await tab.value("new Image().src = 'http://127.0.0.1:9/x.png'; 0")
    assert await tab.value("window.ran === undefined")
    assert await tab.refused() == "csp"
