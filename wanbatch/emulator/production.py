"""From an edit that starts to its outcome: either drawn at once, or fetched, judged and rendered."""

import asyncio
import base64
import binascii
import contextlib
import functools
import logging
import random
import ssl
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

from wanbatch.emulator.bill import Usage
from wanbatch.emulator.catalogue import Failure, failure
from wanbatch.emulator.config import EmulatorConfig
from wanbatch.emulator.limits import (
    IMAGE_BYTES,
    VIDEO_BYTES,
    VIDEO_SECONDS,
    judge_image,
    judge_video,
    moderate,
)
from wanbatch.emulator.render import (
    MediaError,
    RenderJob,
    VideoInfo,
    inspect_image,
    inspect_video,
    render,
)
from wanbatch.emulator.results import Results
from wanbatch.emulator.state import State
from wanbatch.emulator.task import Edit, Outcome, Started
from wanbatch.emulator.uploads import Uploads

_LOG = logging.getLogger(__name__)
_AT_ONCE: Final = 2
"""Edits fetched and rendered at a time, however many slots run."""
_READ_S: Final = 30.0
_FETCH_S: Final = 120.0
"""Real seconds an input may take in all."""
_REDIRECTS: Final = 3
_HUNDREDTH: Final = Decimal("0.01")


class FailedError(Exception):
    """The work on an edit came to nothing; carries what the task says."""

    def __init__(self, reason: Failure) -> None:
        super().__init__(f"{reason.code}: {reason.message}")
        self.reason = reason


def foretell(config: EmulatorConfig) -> Callable[[Edit], Outcome | None]:
    """Give what tells an edit's outcome at its start: moderation, and the usage when nothing is rendered."""

    def outcome(edit: Edit) -> Outcome | None:
        blocked = moderate(edit.prompt)
        return blocked or (None if config.render else _drawn(edit, config))

    return outcome


def usage_of(input_s: Decimal, output_s: Decimal, edit: Edit, config: EmulatorConfig) -> Usage:
    """Give the billed seconds; how a truncated input is billed is not published, hence the switch."""
    if config.bill_truncated_input and edit.duration:
        input_s = min(input_s, Decimal(edit.duration))
    return Usage(input_s.quantize(_HUNDREDTH), output_s.quantize(_HUNDREDTH))


def _drawn(edit: Edit, config: EmulatorConfig) -> Outcome:
    seconds = _seconds(edit.video, config.seed)
    if not VIDEO_SECONDS[0] <= seconds <= VIDEO_SECONDS[1]:
        return failure("InvalidFile.Duration")
    output = min(seconds, Decimal(edit.duration)) if edit.duration else seconds
    return usage_of(seconds, output, edit, config)


def _seconds(url: str, seed: int) -> Decimal:
    """Take `seconds=` from an input's address, or draw 2.00 to 10.00 from the rest of it."""
    parts = urlsplit(url)
    with contextlib.suppress(InvalidOperation, KeyError):
        seconds = Decimal(parse_qs(parts.query)["seconds"][0])
        if seconds.is_finite():
            return seconds
    draw = random.Random(f"{seed}:{parts.netloc}{parts.path}")  # noqa: S311  reproducible, not secret
    return Decimal(draw.randint(200, 1000)).scaleb(-2)


class Workshop:
    """Works on started edits in the background of the running loop, a few at a time."""

    def __init__(
        self, config: EmulatorConfig, state: State, results: Results, uploads: Uploads, folder: Path
    ) -> None:
        self._config = config
        self._state = state
        self._results = results
        self._uploads = uploads
        self._folder = folder
        self._jobs: set[asyncio.Task[None]] = set()
        self._bench = asyncio.Semaphore(_AT_ONCE)
        self._threads = ThreadPoolExecutor(_AT_ONCE, "render")

    def kick(self) -> None:
        """Begin work on whatever started since the last time, and drop the files of expired tasks."""
        for task_id in self._state.take_expired():
            self._results.remove(task_id)
        for started in self._state.take_started():
            job = asyncio.create_task(self._work(started))
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)

    async def join(self) -> None:
        """Wait until everything begun has been delivered; for clocks that stand still meanwhile."""
        while self._jobs:
            await asyncio.gather(*self._jobs)

    async def aclose(self) -> None:
        """Stop all work; what was under way is lost."""
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def _work(self, started: Started) -> None:
        async with self._bench:
            try:
                outcome: Outcome = await self._produce(started)
            except FailedError as error:
                outcome = error.reason
            except MediaError as error:
                outcome = Failure(error.code, error.message)
            except Exception:  # noqa: BLE001  whatever breaks here breaks one task, as at the service
                _LOG.exception("the emulator could not work on a task")
                outcome = failure("InternalError.Algo")
        if not self._state.deliver(started.task_id, outcome):
            self._results.remove(started.task_id)
        self.kick()

    async def _produce(self, started: Started) -> Usage:
        edit = started.edit
        with tempfile.TemporaryDirectory(dir=self._folder) as inputs:
            video = await self._fetch(edit.video, Path(inputs) / "video", VIDEO_BYTES, started.host)
            references = [
                await self._fetch(url, Path(inputs) / f"image{number}", IMAGE_BYTES, started.host)
                for number, url in enumerate(edit.references)
            ]
            job = RenderJob(
                video=video,
                references=tuple(references),
                prompt=edit.prompt,
                resolution=edit.resolution,
                ratio=edit.ratio,
                duration=edit.duration,
                watermark=edit.watermark,
                seed=edit.seed if edit.seed is not None else self._config.seed,
                output=self._results.path(started.task_id),
            )
            source, made = await asyncio.get_running_loop().run_in_executor(self._threads, _edit, job)
            await asyncio.to_thread(self._results.keep, started.task_id)
        return usage_of(source.duration, made.duration, edit, self._config)

    async def _fetch(self, url: str, target: Path, limit: int, host: str) -> Path:
        """Bring one input onto the disk; gives its path. Raises FailedError."""
        parts = urlsplit(url)
        if parts.scheme == "oss":
            kept = self._uploads.find(f"{parts.netloc}{parts.path}", self._state.now())
            if kept is None:
                raise FailedError(failure("InvalidParameter", "oss download error."))
            return kept
        if parts.scheme == "data":
            await asyncio.to_thread(target.write_bytes, _decoded(url))
        elif parts.netloc == host and parts.path.startswith("/media/"):
            return _own_media(url, self._config.media)
        else:
            await _download(url, target, limit)
        return target


def _own_media(url: str, root: Path | None) -> Path:
    """Give the file behind an address under our own `/media/`. Raises FailedError."""
    name = unquote(urlsplit(url).path.removeprefix("/media/"))
    if root is not None and "\0" not in name:
        path = (root / name).resolve()
        if path.is_relative_to(root.resolve()) and path.is_file():
            return path
    raise FailedError(failure("InvalidParameter", f"Failed to download {url}"))


def _edit(job: RenderJob) -> tuple[VideoInfo, VideoInfo]:
    """Judge the inputs, render; give the input's and the output's facts. Raises FailedError, MediaError."""
    source = inspect_video(job.video)
    verdicts = [judge_video(source), *(judge_image(inspect_image(path)) for path in job.references)]
    for reason in filter(None, verdicts):
        raise FailedError(reason)
    return source, render(job)


async def _download(url: str, target: Path, limit: int) -> None:
    """Stream an http(s) input to a file. Raises FailedError with the address in it, as the service does."""
    client = httpx.AsyncClient(
        timeout=_READ_S, follow_redirects=True, max_redirects=_REDIRECTS, verify=_certificates()
    )
    try:
        async with asyncio.timeout(_FETCH_S), client, client.stream("GET", url) as response:
            response.raise_for_status()
            with target.open("wb") as file:
                async for chunk in response.aiter_bytes():
                    file.write(chunk)
                    if file.tell() > limit:
                        raise FailedError(_too_large(limit))
    except TimeoutError as error:
        late = "Download the media resource timed out during the data inspection process."
        raise FailedError(failure("InvalidParameter", late)) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FailedError(failure("InvalidParameter", f"Failed to download {url}")) from error


def _too_large(limit: int) -> Failure:
    return failure("InvalidFile.Size", f"file size must be less than {limit >> 20}MB.")


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Load the trusted certificates once: it takes longer than most downloads here."""
    return httpx.create_ssl_context()


def _decoded(url: str) -> bytes:
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except binascii.Error as error:
        raise FailedError(failure("InvalidParameter", "read image error.")) from error
