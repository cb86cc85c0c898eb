"""What is in a folder of Parquet files, each row once, whatever version wrote it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from wanbatch.errors import LedgerError
from wanbatch.ledger.files import clear_errors, locked
from wanbatch.ledger.schema import SCHEMA_VERSION, upgrade, version_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    import pyarrow.compute as pc

SWALLOWED_KEY = "wanbatch.swallowed"
"""Where a merged file names the files whose rows it took over, in its Parquet metadata."""

_DISK = fs.LocalFileSystem()
_TRIES = 5
"""Compaction may take away a file between its listing and its opening; then the folder is listed again."""


@dataclass(frozen=True)
class LedgerFile:
    """A Parquet file of the ledger, of which only the footer was read."""

    path: Path
    version: str
    fragment: ds.ParquetFileFragment

    @cached_property
    def swallowed(self) -> frozenset[str]:
        """Names (without `.parquet`) of the files that it took over; none unless it is a merged one."""
        names = (self.fragment.physical_schema.metadata or {}).get(SWALLOWED_KEY.encode())
        return frozenset(json.loads(names)) if names else frozenset()


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a folder, those that count and those that an interrupted compaction left behind."""

    files: tuple[LedgerFile, ...]
    left_behind: tuple[LedgerFile, ...]


def list_folder(folder: Path, schema: pa.Schema, *, categories: Collection[str] = ()) -> Listing:
    """Read the footer of every file; `categories` are text columns of few values. Raises `LedgerError`."""
    paths = _paths(folder)
    form = ds.ParquetFileFormat(dictionary_columns=set(categories))
    files = [_open(path, schema, form) for path in paths]
    taken = {(file.path.parent, name) for file in files for name in file.swallowed}
    sorted_out: tuple[list[LedgerFile], list[LedgerFile]] = [], []
    for file in files:
        sorted_out[(file.path.parent, file.path.stem) in taken].append(file)
    return Listing(tuple(sorted_out[False]), tuple(sorted_out[True]))


def read(
    folder: Path,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    *,
    categories: Collection[str] = (),
    where: pc.Expression | None = None,
) -> pa.Table:
    """Read every row (of those `where` holds) once, in the columns of `schema`.

    Raises `LedgerError` where there is nothing or it is damaged.
    """
    whole = _full(schema, categories)
    for attempt in range(_TRIES):
        try:
            files = list_folder(folder, schema, categories=categories).files
            if not files:
                break
            return _read(files, columns or schema.names, folder, whole, where)
        except FileNotFoundError:
            if attempt == _TRIES - 1:
                raise LedgerError(f"{folder}: its files keep changing; try again") from None
    raise LedgerError(f"{folder}: no ledger here yet; name the right --ledger, or run a manifest first")


def table_of(file: LedgerFile, schema: pa.Schema) -> pa.Table:
    """Read one file in the columns of `schema`."""
    return _read((file,), schema.names, file.path, schema)


def _paths(folder: Path) -> list[Path]:
    """List the files that any Parquet reader would; hidden ones are not finished."""
    if not folder.is_dir():
        return []
    with clear_errors(folder), locked(folder, shared=True):
        found = folder.glob("**/*.parquet")
        return sorted(
            path for path in found if not any(part[0] in "._" for part in path.relative_to(folder).parts)
        )


def _open(path: Path, schema: pa.Schema, form: ds.ParquetFileFormat) -> LedgerFile:
    try:
        fragment = form.make_fragment(str(path), _DISK)
        return LedgerFile(path, version_of(path, fragment.physical_schema, schema), fragment)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError):
        with clear_errors(path):
            raise


def _read(
    files: Sequence[LedgerFile],
    columns: Sequence[str],
    folder: Path,
    schema: pa.Schema,
    where: pc.Expression | None = None,
) -> pa.Table:
    ours = [file.fragment for file in files if file.version == SCHEMA_VERSION]
    older = [file for file in files if file.version != SCHEMA_VERSION]
    try:
        tables = [upgrade(file.fragment.to_table(), schema) for file in older]
        tables = [(table if where is None else table.filter(where)).select(list(columns)) for table in tables]
        if ours:
            dataset = ds.FileSystemDataset(ours, schema, ours[0].format, _DISK)
            tables.append(dataset.to_table(columns=list(columns), filter=where))
        return pa.concat_tables(tables)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError):
        with clear_errors(folder):
            raise


def _full(schema: pa.Schema, categories: Collection[str]) -> pa.Schema:
    return pa.schema([_field(field, categories) for field in schema], metadata=schema.metadata)


def _field(field: pa.Field, categories: Collection[str]) -> pa.Field:
    return field.with_type(pa.dictionary(pa.int32(), field.type)) if field.name in categories else field
