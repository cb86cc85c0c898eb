"""The object store's HTTP: the upload host and the result host."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from wanbatch.emulator.api import UPLOAD_PATH, subject_of
from wanbatch.emulator.blows import instead
from wanbatch.emulator.catalogue import Refusal
from wanbatch.emulator.clock import http_date
from wanbatch.emulator.faults import Fault, Subject
from wanbatch.emulator.oss import OssError, oss_request_id, read_range
from wanbatch.emulator.results import PREFIX, Stored, expired
from wanbatch.emulator.spoil import hang_up
from wanbatch.emulator.task import Task
from wanbatch.emulator.world import World

_HOST: Final = "emulator.oss-accelerate.aliyuncs.com"
_CHUNK: Final = 256 * 1024
_FORM_FIELD_BYTES: Final = 64 * 1024
_SLOW_RATE: Final = 4096.0
"""Bytes per real second of a slow download, unless the rule says otherwise."""
_SLOW_STEP_S: Final = 0.1


def object_routes(world: World) -> list[Route]:
    """Give the routes of the object store."""
    store = ObjectStore(world)
    return [
        Route(UPLOAD_PATH, store.upload, methods=["POST"]),
        Route(f"{PREFIX}{{path:path}}", store.download, methods=["GET", "HEAD"]),
    ]


class ObjectStore:
    """Takes uploads in and gives results out."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def upload(self, request: Request) -> Response:
        """Take a form upload; empty 200, or the store's XML."""
        if fault := self._world.faults.strike("before", "upload", Subject()):
            return instead(fault, _refuse)
        try:
            await self._take(request)
        except OssError as error:
            return error.response(_HOST)
        except HTTPException as error:  # how Starlette says that a form cannot be parsed
            return OssError(400, "MalformedPOSTRequest", error.detail).response(_HOST)
        return Response(headers={"x-oss-request-id": oss_request_id()})

    async def download(self, request: Request) -> Response:
        """Give a result, whole or in part, to whoever holds its signed address."""
        try:
            return await self._give(request)
        except OssError as error:
            return error.response(_HOST)

    async def _take(self, request: Request) -> None:
        world = self._world
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise OssError(
                412,
                "PreconditionFailed",
                "The bucket POST must be of the enclosure-type multipart/form-data.",
            )
        async with request.form(max_files=1, max_part_size=_FORM_FIELD_BYTES) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise OssError(400, "InvalidArgument", "Missing form field: file.")
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            now = world.state.now()
            key = world.uploads.check(fields, file.size or 0, now)
            await asyncio.to_thread(world.uploads.put, key, file.file, now)

    async def _give(self, request: Request) -> Response:
        world = self._world
        now = world.state.now()
        task_id = world.results.admit(request.url.path, request.query_params, request.headers, now)
        task = world.state.find(task_id)
        stored = await asyncio.to_thread(world.results.find, task) if task else None
        if task is None or stored is None:
            raise OssError(404, "NoSuchKey", "The specified key does not exist.")
        if fault := world.faults.strike("before", "result", subject_of(task)):
            return instead(fault, _refuse)
        fault = world.faults.strike("result", "result", subject_of(task))
        if fault and fault.kind == "result-expired":
            raise expired(now // 1000, now)
        return _serve_file(request, task, stored, fault)


def _refuse(refused: Refusal, headers: Mapping[str, str]) -> Response:
    reply = OssError(refused.status, refused.code, refused.message).response(_HOST)
    reply.headers.update(headers)
    return reply


def _serve_file(request: Request, task: Task, stored: Stored, fault: Fault | None) -> Response:
    header = None if fault and fault.kind == "result-ignore-range" else request.headers.get("range")
    standard = request.headers.get("x-oss-range-behavior", "").lower() == "standard"
    part = read_range(header, stored.size, standard=standard)
    first, last = part or (0, stored.size - 1)
    headers = _headers(task, stored, last - first + 1)
    if part:
        headers["Content-Range"] = f"bytes {first}-{last}/{stored.size}"
    if request.method == "HEAD":
        return Response(status_code=206 if part else 200, headers=headers)
    return FileReply(stored.path, (first, last), 206 if part else 200, headers, fault)


def _headers(task: Task, stored: Stored, length: int) -> dict[str, str]:
    return {
        "Content-Type": "video/mp4",
        "Content-Length": str(length),
        "Accept-Ranges": "bytes",
        "ETag": stored.etag,
        "Content-MD5": stored.content_md5,
        "Last-Modified": http_date(task.ended or task.submitted),
        "x-oss-hash-crc64ecma": str(stored.crc64),
        "x-oss-object-type": "Normal",
        "x-oss-request-id": oss_request_id(),
    }


class FileReply(Response):
    """A stretch of a file; a fault may slow it down, spoil its middle or break it off there."""

    def __init__(
        self, path: Path, part: tuple[int, int], status: int, headers: dict[str, str], fault: Fault | None
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        self._path = path
        self._part = part
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream the bytes."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        first, last = self._part
        end = last + 1
        broken = self._fault is not None and self._fault.kind == "result-break"
        async for chunk in self._chunks(first, (first + end) // 2 if broken else end):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if broken:
            await hang_up(scope, receive)
        else:
            await send({"type": "http.response.body", "body": b""})

    async def _chunks(self, first: int, end: int) -> AsyncIterator[bytes]:
        rate = (self._fault.rate or _SLOW_RATE) if self._fault and self._fault.kind == "result-slow" else None
        step = max(1, int(rate * _SLOW_STEP_S)) if rate else _CHUNK
        middle = (
            self._path.stat().st_size // 2 if self._fault and self._fault.kind == "result-corrupt" else -1
        )
        with self._path.open("rb") as file:
            file.seek(first)
            for start in range(first, end, step):
                chunk = file.read(min(step, end - start))
                yield _spoiled(chunk, middle - start)
                if rate:
                    await asyncio.sleep(_SLOW_STEP_S)


def _spoiled(chunk: bytes, at: int) -> bytes:
    """Flip the byte at an offset, when it lies in the chunk."""
    if not 0 <= at < len(chunk):
        return chunk
    return chunk[:at] + bytes([chunk[at] ^ 0xFF]) + chunk[at + 1 :]
