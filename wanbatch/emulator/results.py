"""The result store: finished videos behind signed addresses that expire after 24 hours."""

import base64
import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final
from urllib.parse import quote

import fastcrc

from wanbatch.emulator.bill import Usage
from wanbatch.emulator.clock import china_text, utc_text
from wanbatch.emulator.oss import ACCESS_KEY_ID, OssError, Signer
from wanbatch.emulator.render import tiny_clip
from wanbatch.emulator.task import DAY_MS, Task

PREFIX: Final = "/results/"


@dataclass(frozen=True, slots=True)
class Stored:
    """A file and what the store tells about it."""

    path: Path
    size: int
    md5: bytes
    crc64: int

    @property
    def etag(self) -> str:
        """The upper-case MD5, in quotes."""
        return f'"{self.md5.hex().upper()}"'

    @property
    def content_md5(self) -> str:
        """The MD5 in Base64."""
        return base64.b64encode(self.md5).decode()


class Results:
    """Rendered files by task, and tiny clips by duration for edits nobody rendered. Blocking; thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signer = Signer()
        self._rendered: dict[str, Stored] = {}
        self._clips: dict[Decimal, Stored] = {}
        self._lock = threading.Lock()

    def path(self, task_id: str) -> Path:
        """Give where a task's video is to be written."""
        return self._folder / f"{task_id}.mp4"

    def keep(self, task_id: str) -> None:
        """Take over the video written for a task."""
        self._rendered[task_id] = _measure(self.path(task_id))

    def remove(self, task_id: str) -> None:
        """Delete a task's video, if there is one."""
        self._rendered.pop(task_id, None)
        self.path(task_id).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete every rendered video."""
        for task_id in list(self._rendered):
            self.remove(task_id)

    def find(self, task: Task) -> Stored | None:
        """Give a task's video, making a tiny one of the right duration when it was not rendered."""
        if task.task_id in self._rendered:
            return self._rendered[task.task_id]
        return self._clip(task.outcome.output_s) if isinstance(task.outcome, Usage) else None

    def url(self, task: Task, origin: str) -> str:
        """Give the signed address of a succeeded task's video."""
        ended = task.ended or task.submitted
        day = china_text(ended)[:10].replace("-", "")
        path = f"{PREFIX}1d/{task.task_id[:2]}/{day}/{task.task_id}.mp4"
        expires = (ended + DAY_MS) // 1000
        signature = quote(self._signer.sign(_to_sign(path, str(expires))), safe="")
        return f"{origin}{path}?Expires={expires}&OSSAccessKeyId={ACCESS_KEY_ID}&Signature={signature}"

    def admit(self, path: str, query: Mapping[str, str], headers: Mapping[str, str], now: int) -> str:
        """Check a signed request; gives the task's id. Raises OssError."""
        if "authorization" in headers:
            raise OssError(
                400, "InvalidArgument", "Authorization header and query signature must not be mixed."
            )
        expires, signature = query.get("Expires", ""), query.get("Signature", "")
        if not signature or not expires:
            raise OssError(403, "AccessDenied", "You have no right to access this object.")
        if query.get("OSSAccessKeyId") != ACCESS_KEY_ID:
            raise OssError(403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist.")
        if not self._signer.holds(_to_sign(path, expires), signature):
            raise OssError(
                403, "SignatureDoesNotMatch", "The request signature we calculated does not match."
            )
        if now >= int(expires) * 1000:
            raise expired(int(expires), now)
        return Path(path).stem

    def _clip(self, duration: Decimal) -> Stored:
        with self._lock:
            if duration not in self._clips:
                path = self._folder / f"clip-{duration}.mp4"
                tiny_clip(duration, path)
                self._clips[duration] = _measure(path)
            return self._clips[duration]


def expired(expires: int, now: int) -> OssError:
    """Give the store's answer to an address whose time (epoch seconds) is up."""
    return OssError(
        403,
        "AccessDenied",
        "Request has expired.",
        Expires=utc_text(expires * 1000),
        ServerTime=utc_text(now),
        EC="0002-00000069",
    )


def _to_sign(path: str, expires: str) -> str:
    return f"GET\n\n\n{expires}\n{path}"


def _measure(path: Path) -> Stored:
    content = path.read_bytes()
    return Stored(
        path=path,
        size=len(content),
        md5=hashlib.md5(content, usedforsecurity=False).digest(),
        crc64=fastcrc.crc64.xz(content),
    )
