"""Rows of a manifest whose videos would have one name."""

from __future__ import annotations

import hashlib
from array import array
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from wanbatch.errors import Problem, UsageError
from wanbatch.manifest import read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from wanbatch.naming import NameTemplate

_SHOWN = 1_000


def name_problems(manifest: Path, template: NameTemplate) -> list[Problem]:
    """Give the rows of a checked manifest whose video's name an earlier row's has, the first 1,000 of them.

    Rows that are the same edit share their video. Holds 8 bytes a row. Raises `ManifestError`, and `UsageError` when
    the template names a tag that no row has.
    """
    digests, tags = array("q"), set[str]()
    for item in read_manifest(manifest):
        digests.append(_digest(template.name(item)))
        tags.update(item.tags)
    if missing := sorted(template.tags - tags):
        known = ", ".join(f"tag_{tag}" for tag in sorted(tags)) or "no tags"
        raise UsageError(f"--name: no row has tag_{missing[0]}; the manifest has {known}")
    repeated = _repeated(digests)
    return _described(manifest, template, repeated) if repeated else []


def _described(manifest: Path, template: NameTemplate, repeated: set[int]) -> list[Problem]:
    """Read once more, and compare in full the rows whose digests are not their own."""
    first: dict[str, tuple[int, str]] = {}
    found: list[Problem] = []
    for item in read_manifest(manifest):
        name = template.name(item)
        if _digest(name) not in repeated:
            continue
        row, key = first.setdefault(name, (item.row, item.key))
        if key != item.key:
            rule = f"is also the name of row {row}'s video"
            found.append(Problem(item.row, "--name", name, rule, "put {id}, {row} or {key} into the name"))
        if len(found) == _SHOWN:
            break
    return found


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def _repeated(digests: array[int]) -> set[int]:
    """Give those that stand there twice; sorting takes less memory than counting."""
    values = pa.Int64Array.from_buffers(pa.int64(), len(digests), [None, pa.py_buffer(digests)])
    values = values.take(pc.array_sort_indices(values))
    return set(values[1:].filter(pc.equal(values[1:], values[:-1])).to_pylist())
