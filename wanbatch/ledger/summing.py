"""Exact sums over attempts, group by group, in numpy: millions of rows in the time that a page takes to load."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from wanbatch.ledger.scanning import RowGroup, scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date

    from numpy.typing import NDArray

    from wanbatch.ledger.folders import Folder

    Key = tuple[Any, ...]
    Integers = NDArray[np.int64]

DAY = "day"
"""What attempts are grouped by when it is the UTC day on which they settled: a date."""
TAG = "tag:"
"""What attempts are grouped by when it is a tag, with its name behind it: text."""

_SUMMED = ("attempt", "billed_s", "cost", "queue_s", "run_s")
_MILLIONTH = Decimal("0.000001")
_ROWS_AT_ONCE = 2**20
_FULL_PRODUCT = 4_096
"""Combinations up to which it costs nothing to count those that do not occur."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What a group of attempts adds up to."""

    attempts: int
    billed_known: int
    """Attempts of which the billed seconds are known."""
    billed_millionths: int
    cost_known: int
    cost_millionths: int
    retries: int
    """Attempts beyond the first at their item."""
    slot_s: float
    """Seconds in the queue and at work."""

    @property
    def billed_s(self) -> Decimal:
        """What is known of the billed seconds; 0 when nothing is."""
        return self.billed_millionths * _MILLIONTH

    @property
    def cost(self) -> Decimal:
        """What is known of the cost; 0 when nothing is."""
        return self.cost_millionths * _MILLIONTH

    @property
    def unknown_cost(self) -> int:
        """Attempts that `cost` leaves out."""
        return self.attempts - self.cost_known

    def __add__(self, other: Sums) -> Sums:
        """Add up two groups."""
        return Sums(*(getattr(self, name) + getattr(other, name) for name in Sums.__slots__))


def sum_attempts(
    folder: Folder, by: Sequence[str], *, run_id: str | None, within: Callable[[date], bool] | None
) -> dict[Key, Sums]:
    """Add up attempts by text columns, `DAY` and tags; all, or those of a run and of the days `within`.

    The keys have a value for each of `by`, None where an attempt has none. Raises `LedgerError`.
    """
    wanted = _Wanted(tuple(by), run_id, within)
    return _merged(piece for pieces in scan(folder, wanted.sums) for piece in pieces)


def rows_of(sums: Mapping[Key, Sums], by: Sequence[str]) -> list[dict[str, Any]]:
    """Give a dict a group, in order, unknown values first: the columns of `by`, then sums as in the totals."""
    return [
        dict(zip(by, key, strict=True))
        | {
            "attempts": sums[key].attempts,
            "billed_s": sums[key].billed_s,
            "cost": sums[key].cost,
            "unknown_cost": sums[key].unknown_cost,
        }
        for key in sorted(sums, key=lambda key: [(value is not None, value) for value in key])
    ]


@dataclass(frozen=True, slots=True)
class _Wanted:
    by: tuple[str, ...]
    run_id: str | None
    within: Callable[[date], bool] | None

    def sums(self, group: RowGroup) -> list[dict[Key, Sums]]:
        """Add up one row group."""
        if self.within and group.day and not self.within(group.day):
            return []
        batches = group.read(self._columns(group)).to_batches(max_chunksize=_ROWS_AT_ONCE)
        chosen = [self._chosen(batch, group.day) for batch in batches]
        return [self._batch_sums(batch, group.day) for batch in chosen if batch.num_rows]

    def _columns(self, group: RowGroup) -> list[str]:
        needed = {"tags" if name.startswith(TAG) else name for name in self.by} - {DAY}
        if group.day is None and (self.within or DAY in self.by):
            needed.add("settled_at")
        if self.run_id is not None:
            needed.add("run_id")
        return sorted(needed.union(_SUMMED))

    def _chosen(self, batch: pa.RecordBatch, day: date | None) -> pa.RecordBatch:
        """Leave out what is not of the run and the days that are asked for."""
        if self.run_id is not None:
            batch = _where(batch, *_codes(batch, "run_id", day), lambda run_id: run_id == self.run_id)
        if self.within and day is None:
            batch = _where(batch, *_codes(batch, DAY, day), self.within)
        return batch

    def _batch_sums(self, batch: pa.RecordBatch, day: date | None) -> dict[Key, Sums]:
        codes, keys = _group([_codes(batch, name, day) for name in self.by], batch.num_rows)
        size = len(keys)
        counted = np.bincount(codes, minlength=size)
        retry = (_filled(batch["attempt"], "<i4", 1) > 1).astype(np.int64)
        seconds = sum(
            np.bincount(codes, _filled(batch[name], "<f8", 0), size) for name in ("queue_s", "run_s")
        )
        columns = [
            counted.tolist(),
            *_known_and_sum(codes, counted, batch["billed_s"], size),
            *_known_and_sum(codes, counted, batch["cost"], size),
            _exact(codes, retry, size),
            np.broadcast_to(seconds, size).tolist(),
        ]
        return {
            keys[place]: Sums(*(column[place] for column in columns)) for place in np.flatnonzero(counted)
        }


def _merged(pieces: Iterable[dict[Key, Sums]]) -> dict[Key, Sums]:
    merged: dict[Key, Sums] = {}
    for piece in pieces:
        for key, sums in piece.items():
            merged[key] = merged[key] + sums if key in merged else sums
    return merged


def _group(columns: Sequence[tuple[Integers, list[Any]]], rows: int) -> tuple[Integers, list[Key]]:
    """Give each row a number for its combination of values, and the values of each number."""
    codes: Integers = np.zeros(rows, np.int64)
    keys: list[Key] = [()]
    for places, values in columns:
        if len(values) > 1:
            codes = codes * len(values) + places
        if len(keys) * len(values) <= max(_FULL_PRODUCT, rows):
            keys = [(*key, value) for key in keys for value in values]
        else:
            present, codes = np.unique(codes, return_inverse=True)
            keys = [(*keys[code // len(values)], values[code % len(values)]) for code in present.tolist()]
    return codes, keys


def _codes(batch: pa.RecordBatch, name: str, day: date | None) -> tuple[Integers, list[Any]]:
    """Give each row a number for its value of what is grouped by, and the value of each number."""
    if name == DAY and day is not None:
        return np.zeros(batch.num_rows, np.int64), [day]
    if name == DAY:
        return _dictionary(batch["settled_at"].cast(pa.date32()).dictionary_encode())
    if name.startswith(TAG):
        return _tag(batch["tags"], name.removeprefix(TAG))
    return _dictionary(batch[name])


def _dictionary(column: pa.DictionaryArray) -> tuple[Integers, list[Any]]:
    values = column.dictionary.to_pylist()
    if not column.null_count:
        return _view(column.indices, "<i4"), values
    return _filled(column.indices, "<i4", len(values)), [*values, None]


def _tag(tags: pa.MapArray, tag: str) -> tuple[Integers, list[Any]]:
    """Look a tag up in each row's pairs."""
    (name_codes, names), (value_codes, values) = (
        _dictionary(column if pa.types.is_dictionary(column.type) else column.dictionary_encode())
        for column in (tags.keys, tags.items)
    )
    if tag not in names:
        return np.zeros(len(tags), np.int64), [None]
    offsets = _view(tags.offsets, "<i4")
    pairs = slice(offsets[0], offsets[-1])
    rows = np.repeat(np.arange(len(tags)), np.diff(offsets))
    found = np.flatnonzero(name_codes[pairs] == names.index(tag))
    codes = np.full(len(tags), len(values))
    codes[rows[found]] = value_codes[pairs][found]
    return codes, [*values, None]


def _known_and_sum(
    codes: Integers, counted: Integers, column: pa.Array, size: int
) -> tuple[list[int], list[int]]:
    """Count what is known of a decimal column, and sum it in millionths."""
    if not column.null_count:
        return counted.tolist(), _exact(codes, _millionths(column), size)
    known = _known(column)
    return np.bincount(codes[known], minlength=size).tolist(), _exact(
        codes[known], _millionths(column)[known], size
    )


def _millionths(column: pa.Array) -> Integers:
    """Give the unscaled values of decimal128(18, 6): 18 digits fit the lower half of its 128 bits."""
    return _view(column, np.dtype([("low", "<i8"), ("high", "<i8")]))["low"]


def _exact(codes: Integers, numbers: Integers, size: int) -> list[int]:
    """Sum whole numbers of up to 60 bits by their codes; numpy adds up in doubles, which are exact up to 2**53."""
    if not len(numbers):
        return [0] * size
    if max(-int(numbers.min()), int(numbers.max())) * len(numbers) < 2**53:
        return [int(total) for total in np.bincount(codes, numbers, size)]
    high, low = (np.bincount(codes, part, size) for part in (numbers >> 30, numbers & (2**30 - 1)))
    return [(int(upper) << 30) + int(lower) for upper, lower in zip(high, low, strict=True)]


def _where(
    batch: pa.RecordBatch, codes: Integers, values: Sequence[Any], wanted: Callable[[Any], bool]
) -> pa.RecordBatch:
    """Keep the rows of which a value is wanted."""
    kept = np.array([wanted(value) for value in values], bool)[codes]
    bits = pa.py_buffer(np.packbits(kept, bitorder="little"))
    return batch.filter(pa.Array.from_buffers(pa.bool_(), len(kept), [None, bits]))


def _filled(column: pa.Array, kind: str, instead: int) -> NDArray[Any]:
    """Give the numbers of a column, with others where there are none."""
    numbers = _view(column, kind)
    return np.where(_known(column), numbers, instead) if column.null_count else numbers


def _known(column: pa.Array) -> NDArray[np.bool_]:
    return _view(column.is_valid().cast(pa.int8()), "<i1").astype(bool)


def _view(column: pa.Array, kind: Any) -> NDArray[Any]:
    """See Arrow's own memory; its `to_numpy` would import pandas."""
    return np.frombuffer(column.buffers()[1], kind)[column.offset : column.offset + len(column)]
