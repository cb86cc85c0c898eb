"""What an object and a file are, in the same terms, so that they can be held against each other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import fastcrc

if TYPE_CHECKING:
    from pathlib import Path

PART = 16 * 1024 * 1024
"""Bytes of one part of a multipart upload; what is not twice as long is sent in one piece."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What a store tells about an object: its length in bytes, and checksums as `md5:…`, `crc64:…`, `parts:…`."""

    size: int
    checksums: frozenset[str]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a local file is, in the same terms."""

    size: int
    sha256: str
    crc64: int
    md5: bytes
    checksums: frozenset[str]


def facts_of(file: Path) -> Facts:
    """Read a local file once and say what it is; raises OSError."""
    sha256, md5, crc64, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0, 0
    parts = []
    with file.open("rb") as content:
        while part := content.read(PART):
            sha256.update(part)
            md5.update(part)
            parts.append(hashlib.md5(part, usedforsecurity=False).digest())
            crc64 = fastcrc.crc64.xz(part, crc64)
            size += len(part)
    joined = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    checksums = {f"md5:{md5.hexdigest()}", f"crc64:{crc64}", f"parts:{joined}-{len(parts)}"}
    return Facts(size, sha256.hexdigest(), crc64, md5.digest(), frozenset(checksums))
