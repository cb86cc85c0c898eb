"""What is in a dataset of Parquet files, each row once, whatever version wrote it.

A file has the rows of some batches: its own, or those that a merged file names in its metadata. Compaction merges
all files of a day that count, and deletes only what the result names. So of two files of a day that have a batch in
common, one has all that the other has: it counts, and the other was left behind, or was not taken away yet. That
holds however many writers and compactions meet, and is all that a store without locks can rely on.
"""

from __future__ import annotations

import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from wanbatch.errors import LedgerError
from wanbatch.ledger.files import steadily
from wanbatch.ledger.schema import SCHEMA_VERSION, upgrade, version_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    import pyarrow.compute as pc

    from wanbatch.ledger.folders import Folder

SWALLOWED_KEY = "wanbatch.swallowed"
"""Where a merged file names the batches whose rows it took over, in its Parquet metadata."""


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """A Parquet file of the ledger, of which only the footer was read."""

    name: str
    """In its dataset: `date=2026-11-22/run-1.parquet`."""
    version: str
    footer: pq.FileMetaData
    batches: frozenset[str]
    """Whose rows it has."""

    @property
    def day(self) -> str:
        """The folder it is in."""
        return self.name.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a dataset, those that count and those whose rows another one has."""

    files: tuple[LedgerFile, ...]
    left_behind: tuple[LedgerFile, ...]


def list_files(folder: Folder, schema: pa.Schema, under: str = "") -> Listing:
    """Read the footer of every file; raises `LedgerError`, and FileNotFoundError when one went away meanwhile."""
    names = folder.names(under)
    with ThreadPoolExecutor(folder.readers) as pool:
        files = list(pool.map(partial(open_file, folder, schema), names))
    days = defaultdict(list)
    for file in files:
        days[file.day].append(file)
    behind = {file.name for day in days.values() for file in _left_behind(day)}
    return Listing(
        tuple(file for file in files if file.name not in behind),
        tuple(file for file in files if file.name in behind),
    )


def has_batches(folder: Folder, names: Iterable[str], batches: Collection[str], *, but: str) -> bool:
    """Say whether a merged file among `names`, not `but`, has all these batches' rows.

    Raises `LedgerError`, and FileNotFoundError when one went away.
    """
    merged = (name for name in names if is_merged(name) and name != but)
    return any(open_file(folder, pa.schema([]), name).batches.issuperset(batches) for name in merged)


def is_merged(name: str) -> bool:
    """Whether a file took over the rows of others, by its name."""
    return PurePosixPath(name).name.startswith("merged-")


def read(
    folder: Folder,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    *,
    where: pc.Expression | None = None,
) -> pa.Table:
    """Read every row (of those `where` holds) once, in the columns of `schema`.

    Raises `LedgerError` where there is nothing or it is damaged.
    """
    return steadily(
        folder.where,
        lambda: read_files(folder, some_files(folder, schema), schema, columns or schema.names, where),
    )


def read_latest(
    folder: Folder, schema: pa.Schema, columns: Sequence[str], *, where: pc.Expression, rows: int
) -> pa.Table:
    """Read rows of which `where` holds, from the last day backwards, until there are so many.

    Raises `LedgerError` where there is nothing or it is damaged.
    """

    def look() -> pa.Table:
        days = sorted({name.rpartition("/")[0] for name in folder.names()}, reverse=True)
        tables: list[pa.Table] = []
        for day in days or [""]:
            tables.insert(0, read_files(folder, some_files(folder, schema, day), schema, columns, where))
            if sum(table.num_rows for table in tables) >= rows:
                break
        return pa.concat_tables(tables)

    return steadily(folder.where, look)


def some_files(folder: Folder, schema: pa.Schema, under: str = "") -> tuple[LedgerFile, ...]:
    """List the files that count; raises `LedgerError` when there are none."""
    files = list_files(folder, schema, under).files
    if not files:
        raise LedgerError(
            f"{folder.where}: no ledger here yet; name the right --ledger, or run a manifest first"
        )
    return files


def read_files(
    folder: Folder,
    files: Sequence[LedgerFile],
    schema: pa.Schema,
    columns: Sequence[str],
    where: pc.Expression | None = None,
) -> pa.Table:
    """Read files in columns of `schema`; raises `LedgerError`, and FileNotFoundError when one went away."""
    # It brings pandas along, which takes longer to import than most ledgers take to read.
    import pyarrow.dataset as ds  # noqa: PLC0415

    form = ds.ParquetFileFormat()
    ours = [file for file in files if file.version == SCHEMA_VERSION]
    older = [file for file in files if file.version != SCHEMA_VERSION]
    with folder.reading():
        fragments = [form.make_fragment(folder.path(file.name), folder.files) for file in older]
        tables = [upgrade(fragment.to_table(), schema) for fragment in fragments]
        tables = [(table if where is None else table.filter(where)).select(list(columns)) for table in tables]
        if ours:
            fragments = [form.make_fragment(folder.path(file.name), folder.files) for file in ours]
            dataset = ds.FileSystemDataset(fragments, schema, form, folder.files)
            tables.append(dataset.to_table(columns=list(columns), filter=where))
        return pa.concat_tables(tables)


def open_file(folder: Folder, schema: pa.Schema, name: str) -> LedgerFile:
    """Read the footer of a file; raises `LedgerError`, and FileNotFoundError when it went away."""
    with folder.reading(name):
        footer = pq.read_metadata(folder.path(name), filesystem=folder.files)
        told = footer.metadata or {}
        columns = {
            footer.schema.column(number).path.partition(".")[0] for number in range(footer.num_columns)
        }
        version = version_of(folder.place(name), told, columns, schema)
        swallowed = told.get(SWALLOWED_KEY.encode())
        batches = json.loads(swallowed) if swallowed else [PurePosixPath(name).stem]
        return LedgerFile(name, version, footer, frozenset(batches))


def _left_behind(files: Iterable[LedgerFile]) -> Iterator[LedgerFile]:
    """Give the files of a day whose rows another one has; of equals, the last by name counts."""
    taken: set[str] = set()
    for file in sorted(files, key=lambda file: (len(file.batches), file.name), reverse=True):
        if file.batches <= taken:
            yield file
        taken |= file.batches
