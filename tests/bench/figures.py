"""What a measure comes to, and how it is shown: ours beside the peers', with their ratios."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Value = float | Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measure: ours, and the peers' by name."""

    measure: str
    """M1 to M14."""
    what: str
    unit: str
    ours: Value
    goal: Value | None = None
    """None where the measure has no goal of its own."""
    at_least: bool = False
    """Whether the goal is a lower bound; else it is an upper one."""
    peers: Mapping[str, Value] = field(default_factory=dict)
    runs: Sequence[Value] = ()
    """What `ours` is the median, or the worst, of."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        return self.ours >= self.goal if self.at_least else self.ours <= self.goal

    def ratio(self, peer: str) -> float | None:
        """Give a peer's figure over ours; None where ours is nothing."""
        return float(self.peers[peer]) / float(self.ours) if self.ours else None


def middle(runs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Give the median of each figure over runs that all have the same ones."""
    kept = list(runs)
    return {name: median(run[name] for run in kept) for name in kept[0]}


def as_table(figures: Iterable[Figure]) -> Table:
    """Draw the figures, one measure a row."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "measure", "goal", "ours", "", "peers (their figure over ours)"):
        table.add_column(name, justify="right" if name in {"goal", "ours"} else "left", overflow="fold")
    for one in figures:
        met = {None: Text(""), True: Text("met", "green"), False: Text("missed", "red")}[one.met]
        what = Text(f"{one.what}, {one.unit}" if one.unit else one.what)
        what.append(f"\n{one.note}" if one.note else "", style="dim")
        table.add_row(one.measure, what, _goal(one), _shown(one.ours), met, _peers(one))
    return table


def as_json(figures: Iterable[Figure]) -> list[dict[str, Any]]:
    """Give the figures as JSON values; amounts of money as text, which keeps every digit."""
    return [
        {name: _plain(value) for name, value in asdict(one).items()}
        | {"met": one.met, "ratios": {peer: one.ratio(peer) for peer in one.peers}}
        for one in figures
    ]


def _goal(one: Figure) -> str:
    return "" if one.goal is None else f"{'≥' if one.at_least else '≤'} {_shown(one.goal)}"


def _peers(one: Figure) -> str:
    lines = []
    for peer, value in one.peers.items():
        ratio = one.ratio(peer)
        lines.append(f"{peer} {_shown(value)}" + ("" if ratio is None else f" (×{ratio:.3g})"))  # noqa: RUF001 - times
    return "\n".join(lines)


def _shown(value: Value) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
