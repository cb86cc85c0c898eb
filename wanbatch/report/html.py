"""The ledger as one page that needs no network: charts, failures, and every attempt with before and after.

All that comes from manifests, the service or file names is untrusted: it goes into the page as escaped text or
as JSON that holds none of the characters that could end it, and the script shows it as text only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from wanbatch.errors import LedgerError
from wanbatch.files import replacing
from wanbatch.report import charts, sums
from wanbatch.report.charts import Point
from wanbatch.report.stills import still

if TYPE_CHECKING:
    from pathlib import Path

STILLS = 200
"""How many attempts are shown with pictures, unless told otherwise."""

_STILLS_BYTES = 24_000_000
_FAILURES_SHOWN = 50
_COULD_END_IT = re.compile("[<>&\u2028\u2029]")

_Row = Mapping[str, Any]


def write_page(attempts: Sequence[_Row], path: Path, *, stills: int = STILLS) -> None:
    """Write ledger rows as a page; of the latest successes, so many get pictures, up to 24 MB in all.

    The file appears whole or not at all. Raises `LedgerError` when it can't be written.
    """
    try:
        with replacing(path) as part:
            part.write_text(page(attempts, stills=stills), encoding="utf-8")
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}; choose another file") from None


def page(attempts: Sequence[_Row], *, stills: int = STILLS) -> str:
    """Give the page's text."""
    rows = sorted(attempts, key=lambda row: row["settled_at"], reverse=True)
    style, script = _asset("page.css"), _asset("page.js")
    parts = {
        "policy": f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "about": _about(rows),
        "tiles": _tiles(rows),
        "charts": "".join(_charts(rows)),
        "failures": _failures(rows),
        "data": embed({"items": _items(rows, stills)}),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))


def embed(value: object) -> str:
    """Write JSON that may stand inside a script element: nothing in it can end the element or a line."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _COULD_END_IT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def plain(amount: Decimal) -> str:
    """Write an amount exactly, without needless zeros but with two places at least."""
    whole, _, places = f"{amount.normalize():f}".partition(".")
    return f"{int(whole):,}.{places.ljust(2, '0')}"


def _asset(name: str) -> str:
    return files("wanbatch.report").joinpath("page", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _about(rows: Sequence[_Row]) -> str:
    if not rows:
        return "No attempts."
    runs = len({row["run_id"] for row in rows})
    first, last = (f"{row['settled_at'].astimezone(UTC):%d %b %Y %H:%M}" for row in (rows[-1], rows[0]))
    written = f"{datetime.now(UTC):%d %b %Y %H:%M}"
    return f"{runs:,} run{'s' * (runs != 1)}, settled {first} to {last} UTC. Written {written} UTC."


def _tiles(rows: Sequence[_Row]) -> str:
    succeeded = sum(row["status"] == "succeeded" for row in rows)
    unknown = sum(row["cost"] is None for row in rows)
    seconds = sum((row["billed_s"] or Decimal(0) for row in rows), Decimal(0))
    told = [(plain(sums.cost(rows, currency)), f"{currency} spent") for currency in sums.currencies(rows)]
    told += [
        (f"{len(rows):,}", "attempts"),
        (f"{len({row['key'] for row in rows}):,}", "items"),
        (f"{succeeded:,}", "succeeded"),
        (f"{len(rows) - succeeded:,}", "did not succeed"),
        (f"{seconds.normalize():,f}", "seconds billed"),
    ]
    told += [(f"{unknown:,}", "of unknown cost")] if unknown else []
    return "".join(f"<div><dd>{escape(value)}</dd><dt>{escape(name)}</dt></div>" for value, name in told)


def _charts(rows: Sequence[_Row]) -> list[str]:
    drawn = []
    for currency in sums.currencies(rows):
        spent = [_money_point(one, currency) for one in sums.spend_over_time(rows, currency)]
        drawn.append(charts.columns(f"Spend over time, {currency}", ("settled (UTC)", "cost"), spent))
    if working := sums.slots(rows):
        points = [Point(f"{at:%d %b %H:%M}", mean, f"{mean:.1f}") for at, mean in working]
        drawn.append(charts.columns("Slots in use, mean", ("from (UTC)", "edits at once"), points))
    for title, name in (("Waiting in the service's queue", "queue_s"), ("Run time of an edit", "run_s")):
        if bins := sums.histogram(row[name] for row in rows):
            points = [_count_point(one) for one in bins]
            drawn.append(charts.columns(f"{title}, seconds", ("from, s", "attempts"), points, " s"))
    if rows:
        points = [_count_point(one, kind=one.name) for one in sums.outcomes(rows)]
        drawn.append(charts.bars("Outcomes", ("outcome", "attempts"), points))
    for currency in sums.currencies(rows):
        for tag, by_value in sums.spend_by_tag(rows, currency).items():
            points = [_money_point(one, currency) for one in by_value]
            drawn.append(charts.bars(f"Spend by {tag}, {currency}", (tag, "cost"), points))
    return drawn


def _money_point(one: sums.Sum, currency: str) -> Point:
    return Point(one.name, float(one.cost), f"{plain(one.cost)} {currency}")


def _count_point(one: sums.Sum, kind: str = "") -> Point:
    return Point(one.name, one.attempts, f"{one.attempts:,}", kind)


def _failures(rows: Sequence[_Row]) -> str:
    kinds = sums.failures(rows)
    if not kinds:
        return "<p>None.</p>"
    body = "".join(
        f'<tr><td class=number>{count:,}</td><td><span class="badge {escape(status)}">{escape(status)}</span></td>'
        f"<td>{escape(code)}</td><td>{escape(message)}</td></tr>"
        for status, code, message, count in kinds[:_FAILURES_SHOWN]
    )
    rest = len(kinds) - _FAILURES_SHOWN
    more = f"<p>… and {rest:,} more kinds; each is with its attempt below.</p>" if rest > 0 else ""
    head = "<tr><th class=number>attempts</th><th>outcome</th><th>code</th><th>message</th></tr>"
    return f"<div class=wide><table><thead>{head}</thead><tbody>{body}</tbody></table></div>{more}"


def _items(rows: Sequence[_Row], stills: int) -> list[dict[str, Any]]:
    items, left, room = [], stills, _STILLS_BYTES
    for row in rows:
        item = _item(row)
        if left > 0 and room > 0 and row["status"] == "succeeded" and (after := still(row["output"])):
            before = still(row["video"])
            item |= {"before": before, "after": after}
            left, room = left - 1, room - len(after) - len(before or "")
        items.append(item)
    return items


def _item(row: _Row) -> dict[str, Any]:
    """Keep what a card shows; money and seconds as exact text."""
    return {
        "id": row["id"] or row["key"][:12],
        "attempt": row["attempt"],
        "prompt": row["prompt"] or "",
        "video": row["video"],
        "output": row["output"] or "",
        "status": row["status"],
        "code": row["code"] or "",
        "message": row["message"] or "",
        "resolution": row["resolution"],
        "service": row["service"],
        "task": row["task_id"] or "",
        "run": row["run_id"],
        "settled": row["settled_at"].astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "billed": None if row["billed_s"] is None else f"{row['billed_s'].normalize():f}",
        "took": row["run_s"],
        "cost": None if row["cost"] is None else f"{row['cost']:f}",
        "currency": row["currency"] or "",
        "tags": dict(row["tags"] or ()),
    }
