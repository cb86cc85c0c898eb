"""The Parquet dataset that people read: one row per settled attempt, and totals per run.

    LEDGER/attempts/date=YYYY-MM-DD/<batch>.parquet
    LEDGER/totals/<run>.parquet

A file appears whole or not at all, and a batch always goes into a file of the same name, so that writing it
again after a crash changes nothing. Money and seconds are decimal128(18, 6): sums are exact.
"""

from __future__ import annotations

import os
import uuid
from collections import defaultdict
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from wanbatch.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from wanbatch.journal import Batch

SCHEMA_VERSION = "1"

_TIME = pa.timestamp("us", tz="UTC")
_DECIMAL = pa.decimal128(18, 6)
_PLACES = Decimal("0.000001")

ATTEMPTS = pa.schema(
    [
        ("run_id", pa.string()),
        ("key", pa.string()),
        ("id", pa.string()),
        ("attempt", pa.int32()),
        ("manifest", pa.string()),
        ("row", pa.int64()),
        ("service", pa.string()),
        ("region", pa.string()),
        ("model", pa.string()),
        ("prompt", pa.string()),
        ("negative_prompt", pa.string()),
        ("video", pa.string()),
        ("reference_images", pa.list_(pa.string())),
        ("resolution", pa.string()),
        ("ratio", pa.string()),
        ("duration_requested", pa.int32()),
        ("audio_setting", pa.string()),
        ("prompt_extend", pa.bool_()),
        ("watermark", pa.bool_()),
        ("seed", pa.int64()),
        ("task_id", pa.string()),
        ("submit_request_id", pa.string()),
        ("status", pa.string()),
        ("code", pa.string()),
        ("message", pa.string()),
        ("submitted_at", _TIME),
        ("scheduled_at", _TIME),
        ("ended_at", _TIME),
        ("settled_at", _TIME),
        ("queue_s", pa.float64()),
        ("run_s", pa.float64()),
        ("input_video_s", _DECIMAL),
        ("output_video_s", _DECIMAL),
        ("billed_s", _DECIMAL),
        ("video_count", pa.int32()),
        ("sr", pa.int32()),
        ("currency", pa.string()),
        ("unit_price", _DECIMAL),
        ("cost", _DECIMAL),
        ("rate_card", pa.string()),
        ("output", pa.string()),
        ("output_bytes", pa.int64()),
        ("output_sha256", pa.string()),
        ("adopted", pa.bool_()),
        ("tags", pa.map_(pa.string(), pa.string())),
    ],
    metadata={"wanbatch.schema": SCHEMA_VERSION},
)
"""One row per attempt, written when it settles, never changed. URLs are without their signatures."""

TOTALS = pa.schema(
    [
        ("run_id", pa.string()),
        ("service", pa.string()),
        ("currency", pa.string()),
        ("resolution", pa.string()),
        ("status", pa.string()),
        ("attempts", pa.int64()),
        ("billed_s", _DECIMAL),
        ("cost", _DECIMAL),
        ("unknown_cost", pa.int64()),
    ],
    metadata={"wanbatch.schema": SCHEMA_VERSION},
)
"""By run, service, currency, resolution and status; `unknown_cost` counts what `cost` leaves out."""


class Ledger:
    """A ledger folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def attempts(self) -> Path:
        """The dataset of attempts, for any Parquet reader."""
        return self.folder / "attempts"

    @property
    def totals(self) -> Path:
        """The dataset of totals."""
        return self.folder / "totals"

    def prepare(self) -> None:
        """Make the folders, and see that they can be written before anything is paid."""
        with _clear_errors(self.folder):
            for folder in (self.attempts, self.totals):
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".{uuid.uuid4().hex}.writable"
                probe.touch()
                probe.unlink()

    def write_batch(self, batch: Batch) -> None:
        """Write settled attempts, one file a day; doing it twice leaves one copy."""
        days = defaultdict(list)
        for row in batch.rows:
            days[_time(row["settled_at"]).date()].append(row)
        for day, rows in sorted(days.items()):
            path = self.attempts / f"date={day:%Y-%m-%d}" / f"{batch.name}.parquet"
            try:
                table = _table(rows, ATTEMPTS)
            except pa.ArrowException as error:
                raise LedgerError(
                    f"{path}: a row does not fit its columns ({_first_line(error)}); the journal has it all"
                ) from None
            self._write(table, path)

    def write_totals(self, run_id: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
        """Add up what a run settled, and write it in place of an earlier sum of the same run."""
        table = _table(add_up(run_id, rows), TOTALS)
        self._write(table, self.totals / f"{run_id}.parquet")
        return table

    def read_attempts(self, columns: list[str] | None = None) -> pa.Table:
        """Read every attempt; raises `LedgerError` when there is nothing, or a file is damaged."""
        return _read(self.attempts, ATTEMPTS, columns)

    def read_totals(self) -> pa.Table:
        """Read the totals of every run; raises `LedgerError` when there is nothing, or a file is damaged."""
        return _read(self.totals, TOTALS, None)

    def totals_by(self, *, run_id: str | None = None) -> list[dict[str, Any]]:
        """Add up all attempts, or those of one run, by service, currency, resolution and status."""
        needed = ["run_id", "service", "currency", "resolution", "status", "billed_s", "cost"]
        rows = self.read_attempts(needed).to_pylist()
        chosen = [row for row in rows if run_id is None or row["run_id"] == run_id]
        if not chosen:
            raise LedgerError(f"{self.folder}: no attempts of run {run_id}")
        return [
            {name: value for name, value in total.items() if name != "run_id"} for total in add_up("", chosen)
        ]

    def _write(self, table: pa.Table, path: Path) -> None:
        """Write a file so that a reader sees all of it or none, and a power cut does not undo it."""
        temporary = path.parent / f".{uuid.uuid4().hex}.tmp"  # containers share folders and process ids
        with _clear_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    pq.write_table(table, file, compression="zstd")
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            for folder in (path.parent, path.parent.parent):  # the folder itself may be new
                _sync_folder(folder)


def add_up(run_id: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sum ledger rows exactly, by service, currency, resolution and status."""
    sums: dict[tuple[str, ...], dict[str, Any]] = {}
    names = ("service", "currency", "resolution", "status")
    for row in rows:
        group = tuple(row[name] for name in names)
        total = sums.setdefault(
            group,
            {"run_id": run_id, **dict(zip(names, group, strict=True))}
            | {"attempts": 0, "billed_s": Decimal(0), "cost": Decimal(0), "unknown_cost": 0},
        )
        total["attempts"] += 1
        total["billed_s"] += Decimal(row["billed_s"] or 0)
        total["cost"] += Decimal(row["cost"] or 0)
        total["unknown_cost"] += row["cost"] is None
    return [sums[group] for group in sorted(sums, key=lambda group: tuple(part or "" for part in group))]


def _read(folder: Path, schema: pa.Schema, columns: list[str] | None) -> pa.Table:
    if not any(folder.glob("**/*.parquet")):
        raise LedgerError(f"{folder}: no ledger here yet; name the right --ledger, or run a manifest first")
    with _clear_errors(folder):
        return pq.read_table(folder, schema=schema, columns=columns, partitioning=None)


def _table(rows: list[Mapping[str, Any]] | list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.table(
        [pa.array([_value(row[field.name], field.type) for row in rows], field.type) for field in schema],
        schema=schema,
    )


def _value(value: Any, kind: pa.DataType) -> Any:
    """Turn a value that went through JSON into what its column holds."""
    if value is None:
        return None
    if pa.types.is_timestamp(kind):
        return _time(value)
    if pa.types.is_decimal(kind):
        return Decimal(value).quantize(_PLACES)
    if pa.types.is_map(kind):
        return sorted(value.items())
    return value


def _time(value: str | datetime | date) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value))


def _sync_folder(folder: Path) -> None:
    """Make a rename last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _clear_errors(where: Path) -> Iterator[None]:
    """Turn what a disk or a damaged file does into one clear line."""
    try:
        yield
    except pa.ArrowException as error:
        raise LedgerError(
            f"{where}: not readable as Parquet ({_first_line(error)}); move that file away"
        ) from None
    except OSError as error:
        raise LedgerError(
            f"{where}: {error.strerror or _first_line(error)}; make room or mend its permissions, "
            "then run again: the journal has it all"
        ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
