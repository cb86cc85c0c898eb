"""Disks that are full and folders that can't be written, also when the tests are run by root."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wanbatch.errors import WanbatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

_NOBODY = 65534


@contextmanager
def read_only_folder() -> Iterator[Path]:
    """Give a folder where nobody may write."""
    folder = Path(tempfile.mkdtemp(prefix="wanbatch-read-only-"))
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def unprivileged(act: Callable[[], object]) -> str:
    """Do something in a process without root's powers, and give the name and the words of its error."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    child = fork.Process(target=_without_powers, args=(act, there))
    child.start()
    words: str = here.recv() if here.poll(30) else "no answer"
    child.join()
    return words


def _without_powers(act: Callable[[], object], there: Connection) -> None:
    if os.geteuid() == 0:
        os.setuid(_NOBODY)
    try:
        act()
    except WanbatchError as error:
        there.send(f"{type(error).__name__}: {error}")
    else:
        there.send("no error")


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
