"""Bar charts as SVG text with a table of the same numbers; colours and type come from the page's style.

Every label is escaped here. Nothing carries a style attribute: the page's policy forbids them.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH = 560
_ROW, _BAR = 26, 16
_LABEL_W, _VALUE_W = 170, 110
_HEIGHT, _TOP, _BOTTOM, _LEFT = 200, 14, 24, 6
_LABELS = 6
_WIDEST = 64


@dataclass(frozen=True, slots=True)
class Point:
    """One bar: its name, its length in any unit, the exact text of its value, and a class for its colour."""

    name: str
    size: float
    text: str
    kind: str = ""


def bars(title: str, head: tuple[str, str], points: Sequence[Point]) -> str:
    """Draw bars that lie, one below the other, for names of any length."""
    most = max((point.size for point in points), default=0) or 1
    room = _WIDTH - _LABEL_W - _VALUE_W
    drawn = []
    for number, point in enumerate(points):
        top, length = number * _ROW, max(point.size / most * room, 1)
        drawn.append(
            f"<g><title>{escape(point.name)}: {escape(point.text)}</title>"
            f'<text class="name" x="{_LABEL_W - 8}" y="{top + 17}">{escape(_short(point.name))}</text>'
            f'<rect class="bar {escape(point.kind)}" x="{_LABEL_W}" y="{top + 5}" width="{length:.1f}"'
            f' height="{_BAR}" rx="2"/>'
            f'<text class="value" x="{_LABEL_W + length + 6:.1f}" y="{top + 17}">{escape(point.text)}</text></g>'
        )
    return _figure(title, head, points, "".join(drawn), len(points) * _ROW + 4)


def columns(title: str, head: tuple[str, str], points: Sequence[Point], unit: str = "") -> str:
    """Draw bars that stand side by side, for an ordered scale; a few names below, the top of the scale above."""
    top = max(points, key=lambda point: point.size)
    most = top.size or 1
    width = min((_WIDTH - 2 * _LEFT) / len(points), _WIDEST)
    floor = _HEIGHT - _BOTTOM
    every = max(1, -(-len(points) // _LABELS))
    drawn = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _LEFT}" y1="{_TOP}" y2="{_TOP}"/>',
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _LEFT}" y1="{floor}" y2="{floor}"/>',
        f'<text class="scale" x="{_LEFT}" y="{_TOP - 3}">{escape(top.text)}</text>',
    ]
    for number, point in enumerate(points):
        left, height = _LEFT + number * width, point.size / most * (floor - _TOP)
        drawn.append(
            f"<g><title>{escape(point.name)}{escape(unit)}: {escape(point.text)}</title>"
            f'<rect class="bar {escape(point.kind)}" x="{left + width * 0.06:.2f}" y="{floor - height:.2f}"'
            f' width="{width * 0.88:.2f}" height="{height:.2f}"/></g>'
        )
        if number % every == 0:
            drawn.append(
                f'<text class="tick" x="{left:.1f}" y="{_HEIGHT - 7}">{escape(point.name + unit)}</text>'
            )
    return _figure(title, head, points, "".join(drawn), _HEIGHT)


def _figure(title: str, head: tuple[str, str], points: Sequence[Point], drawn: str, height: int) -> str:
    rows = "".join(f"<tr><td>{escape(point.name)}</td><td>{escape(point.text)}</td></tr>" for point in points)
    first, second = map(escape, head)
    return (
        f"<figure class=chart><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">{drawn}</svg>'
        f"<details><summary>Numbers</summary><table><thead><tr><th>{first}</th><th>{second}</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></details></figure>"
    )


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"  # noqa: PLR2004 - what fits left of the bars
