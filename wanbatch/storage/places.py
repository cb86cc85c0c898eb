"""Where finished videos are kept: a folder, or a bucket.

Both take a file that is whole, under a name that is nobody else's: what is there already under the name and is
another video stays, and the item's key goes into the name. Doing it again gives the same place again.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from wanbatch import buckets
from wanbatch.errors import StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wanbatch.buckets import Facts

_PART = ".part"
_ABANDONED_S = 48 * 3600.0
"""A result can be fetched for 24 hours: what is left of an older one is of no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which edit a video is of."""

    name: str
    """Of the file, as asked for: it may be in folders, and ends in `.mp4`."""
    key: str
    task_id: str

    def names(self) -> Iterator[str]:
        """Give the name it is to have, and what it may have instead when that is another video's."""
        stem = self.name.removesuffix(".mp4")
        yield self.name
        yield f"{stem}-{self.key[:8]}.mp4"
        yield f"{stem}-{self.key}-{self._task}.mp4"

    @property
    def part(self) -> str:
        """Name what has come of it so far; the same in every run."""
        return f"{Path(self.name).name}.{self.key[:8]}-{self._task}{_PART}"

    @property
    def _task(self) -> str:
        return quote(self.task_id, safe="").replace(".", "%2E")[:36]


class Place(Protocol):
    """Somewhere for videos. Everything blocks and raises `StorageError`, or OSError."""

    def prepare(self) -> None:
        """See that videos can be stored, before anything is paid."""

    def part(self, origin: Origin) -> Path:
        """Give where on this disk a video is put together."""

    def publish(self, part: Path, origin: Origin, facts: Facts) -> str:
        """Let a whole file appear, for good; gives its path or URL."""


class Folder:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Make it, and see that it can be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder):
                pass
            _sweep(self._folder)
        except OSError as error:
            raise storage_error(self._folder, error) from None

    def part(self, origin: Origin) -> Path:
        """Give where a video is put together: on the same disk."""
        part = self._folder / origin.part
        if (
            part.exists() and part.stat().st_nlink > 1
        ):  # a crash left it beside the video that it is: writing to
            part.unlink()  # it would write into that
        return part

    def publish(self, part: Path, origin: Origin, facts: Facts) -> str:
        """Let a whole file appear under its name; gives its path."""
        for name in origin.names():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if _appears(part, path, facts):
                _make_durable(path, self._folder)
                return str(path)
        raise StorageError(
            f"{self._folder / origin.name}: other files have every name it may have; move them"
        )


class Bucket:
    """A prefix in a bucket, or anything else that fsspec knows."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def prepare(self) -> None:
        """See that it can be written, by an object that is deleted again if that is allowed."""
        url = f"{self._url}/.wanbatch-{uuid.uuid4().hex}"
        with tempfile.NamedTemporaryFile(dir=_own_folder()) as file:
            probe = Path(file.name)
            buckets.keep(probe, url, buckets.facts_of(probe), content_type="text/plain", metadata={})
            with suppress(StorageError):
                buckets.remove(url)
        _sweep(_own_folder())

    def part(self, origin: Origin) -> Path:
        """Give where a video is put together: in a folder of ours for temporary files."""
        return _own_folder() / origin.part

    def publish(self, part: Path, origin: Origin, facts: Facts) -> str:
        """Upload a whole file under its name, unless it is there; gives its URL."""
        metadata = {
            "wanbatch-key": origin.key,
            "wanbatch-task-id": quote(origin.task_id, safe=""),
            "wanbatch-sha256": facts.sha256,
        }
        for name in origin.names():
            url = f"{self._url}/{name}"
            if buckets.keep(part, url, facts, content_type="video/mp4", metadata=metadata):
                part.unlink()
                return url
        raise StorageError(f"{self._url}/{origin.name}: other objects have every name it may have; move them")


def place_of(where: str) -> Place:
    """Find the place that a path or URL names; raises `UsageError`."""
    scheme, separator, rest = where.partition("://")
    if not separator:
        return Folder(Path(where))
    if scheme == "file":
        return Folder(Path(rest))
    if not rest.strip("/") or "?" in rest or "#" in rest or "@" in rest.partition("/")[0]:
        raise UsageError(f"{buckets.shown(where)}: is no place for videos; write s3://bucket/prefix")
    return Bucket(where)


def prepare(where: str) -> None:
    """See that a place can be written before anything is paid; raises `StorageError`, `UsageError`."""
    place_of(where).prepare()


def storage_error(where: object, error: OSError) -> StorageError:
    """Say what a disk refused."""
    return StorageError(
        f"{where}: {error.strerror or error}; make room or mend its permissions, then run again: "
        "what is paid is fetched then"
    )


def _appears(part: Path, path: Path, facts: Facts) -> bool:
    """Let a file appear under a name unless another one has it; a link can't replace anything, a rename can."""
    try:
        os.link(part, path)
    except FileExistsError:
        if path.stat().st_size != facts.size or buckets.facts_of(path).sha256 != facts.sha256:
            return False
    except OSError:  # a disk without links
        if path.exists():
            raise
        part.replace(path)
    part.unlink(missing_ok=True)
    return True


def _make_durable(path: Path, root: Path) -> None:
    """Let a file's name, and those of the folders it is in, outlast a power cut."""
    for folder in path.parents:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        if folder == root:
            return


def _own_folder() -> Path:
    """Give a folder for temporary files that outlive us and that nobody else can write; raises `StorageError`."""
    folder = Path(tempfile.gettempdir()) / f"wanbatch-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise storage_error(folder, error) from None
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise StorageError(f"{folder}: is not ours alone; delete it, or set TMPDIR to a folder of yours")
    return folder


def _sweep(folder: Path) -> None:
    """Delete what is left of videos that nobody can fetch any more."""
    for part in folder.glob(f"*{_PART}"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _ABANDONED_S:
                part.unlink()
