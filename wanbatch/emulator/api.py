"""The public API: create, query, list, cancel, upload credentials.

Sources: the Wan video editing API reference and "Asynchronous task management API" of
https://www.alibabacloud.com/help/en/model-studio/.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wanbatch.emulator.blows import afterwards, fate, instead
from wanbatch.emulator.catalogue import Failure, Refusal, refusal
from wanbatch.emulator.faults import Subject
from wanbatch.emulator.limits import glance, read_body, read_edit, read_leniently, read_model
from wanbatch.emulator.listing import read_list_query
from wanbatch.emulator.replies import error_reply, json_reply, list_row, task_body, unknown_body
from wanbatch.emulator.state import new_id
from wanbatch.emulator.task import Edit, Fate, Status, Task
from wanbatch.emulator.world import World, origin

BASE: Final = "/api/v1"
SUBMIT_PATH: Final = f"{BASE}/services/aigc/video-generation/video-synthesis"
UPLOAD_PATH: Final = "/upload"
_HALF: Final = 2
_TOO_MANY: Final = 429
"""An incomplete page leaves out every second row."""

Act = Callable[[Request, str, bytes], dict[str, Any]]


class Api:
    """The API's operations on one world: each takes a request, its id and its body, and gives a JSON body."""

    def __init__(self, world: World) -> None:
        self._world = world

    def submit(self, request: Request, request_id: str, body: bytes) -> dict[str, Any]:
        """Create a task; it may be billed from now on. Raises Refusal."""
        world = self._world
        if request.headers.get("x-dashscope-async", "").lower() != "enable":
            raise refusal("AccessDenied", "current user api does not support synchronous calls.")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise refusal("InvalidParameter", "Content-Type must be application/json.")
        edit, doom = self._read(request, body)
        struck = world.faults.strike("task", "submit", Subject(edit.prompt, (edit.video, *edit.references)))
        destiny = Fate(failure=doom) if doom else fate(struck, sr_as_string=world.config.sr_as_string)
        host = request.headers.get("host", "")
        task = world.state.submit(edit, request_id=request_id, host=host, fate=destiny)
        return {"output": {"task_status": Status.PENDING.value, "task_id": task.task_id}}

    def query(self, request: Request, _: str, __: bytes) -> dict[str, Any]:
        """Give one task as it stands."""
        task_id = request.path_params["task_id"]
        task = self._world.state.query(task_id)
        if task is None:
            return unknown_body(task_id)
        url = self._world.results.url(task, origin(request)) if task.status is Status.SUCCEEDED else None
        return task_body(task, url)

    def list(self, request: Request, _: str, __: bytes) -> dict[str, Any]:
        """Give a page of the account's tasks. Raises Refusal."""
        world = self._world
        now = world.state.now()
        query = read_list_query(request.query_params, now)
        struck = world.faults.strike("list", "list", Subject())
        if struck and struck.kind == "list-absent":
            absent = refusal("NotFound")
            raise Refusal(struck.status or absent.status, struck.code or absent.code, absent.message)
        tasks = world.state.tasks(query.start)
        if struck and struck.kind == "list-delay":
            youngest = now - round((struck.seconds or 60) * 1000)
            tasks = [task for task in tasks if task.submitted <= youngest]
        total, page = query.page(tasks)
        if struck and struck.kind == "list-incomplete":
            page = page[::_HALF]
        return {
            "total": total,
            "total_page": math.ceil(total / query.page_size),
            "page_no": query.page_no,
            "page_size": query.page_size,
            "data": [list_row(task, world.config.region) for task in page],
        }

    def cancel(self, request: Request, _: str, __: bytes) -> dict[str, Any]:
        """Take a PENDING task back. Raises Refusal."""
        if not self._world.state.cancel(request.path_params["task_id"]):
            raise refusal("UnsupportedOperation")
        return {}

    def policy(self, request: Request, _: str, __: bytes) -> dict[str, Any]:
        """Give an upload credential. Raises Refusal."""
        world = self._world
        if request.query_params.get("action") != "getPolicy":
            raise refusal("InvalidParameter", "The type or value of action is out of definition.")
        read_model(request.query_params, world.config.model)
        return {"data": world.uploads.policy(world.state.now(), origin(request) + UPLOAD_PATH)}

    def _read(self, request: Request, body: bytes) -> tuple[Edit, Failure | None]:
        """Give the edit, and the parameter error it will fail with when those come late."""
        parsed = read_body(body)
        read_model(parsed, self._world.config.model)
        resolves = request.headers.get("x-dashscope-ossresourceresolve", "").lower() == "enable"
        try:
            return self._resolved(read_edit(parsed, resolves_oss=resolves)), None
        except Refusal as refused:
            if not self._world.config.late_validation:
                raise
            return read_leniently(parsed), Failure(refused.code, refused.message)

    def _resolved(self, edit: Edit) -> Edit:
        """Refuse an upload that is not there, or not any more."""
        now = self._world.state.now()
        for url in (edit.video, *edit.references):
            if url.startswith("oss://") and self._world.uploads.find(url.removeprefix("oss://"), now) is None:
                raise refusal("InvalidParameter", "oss download error.")
        return edit


def api_routes(world: World) -> list[Route]:
    """Give the routes of the public API."""
    api = Api(world)

    def serve(operation: str, act: Act) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            body = await request.body() if request.method == "POST" else b""
            reply = _serve(world, operation, act, request, body)
            world.windows[operation].throttled += reply.status_code == _TOO_MANY
            return reply

        return endpoint

    return [
        Route(SUBMIT_PATH, serve("submit", api.submit), methods=["POST"]),
        Route(f"{BASE}/tasks", serve("list", api.list), methods=["GET"]),
        Route(f"{BASE}/tasks/{{task_id}}", serve("query", api.query), methods=["GET"]),
        Route(f"{BASE}/tasks/{{task_id}}/cancel", serve("cancel", api.cancel), methods=["POST"]),
        Route(f"{BASE}/uploads", serve("policy", api.policy), methods=["GET"]),
    ]


def _serve(world: World, operation: str, act: Act, request: Request, body: bytes) -> Response:
    """Let the faults have their way before and after, and the account's key and rates be kept in between."""
    request_id = new_id()
    now = world.clock()
    window = world.windows[operation]
    window.offer(now)
    subject = _subject(world, operation, request, body)

    def refuse(refused: Refusal, headers: Mapping[str, str]) -> Response:
        return error_reply(refused, request_id, headers)

    if before := world.faults.strike("before", operation, subject):
        return instead(before, refuse)
    try:
        _authenticate(world, request)
        if not window.admit(now):
            raise refusal("Throttling.RateQuota")
        reply = json_reply({"request_id": request_id, **act(request, request_id, body)})
    except Refusal as refused:
        return refuse(refused, {})
    finally:
        world.workshop.kick()
    after = world.faults.strike("after", operation, subject)
    return afterwards(after, reply, refuse) if after else reply


def _subject(world: World, operation: str, request: Request, body: bytes) -> Subject:
    if not world.faults.active:
        return Subject()
    if operation == "submit":
        try:
            return Subject(*glance(read_body(body)))
        except Refusal:
            return Subject()
    task = world.state.query(request.path_params.get("task_id", ""))
    return subject_of(task) if task else Subject()


def subject_of(task: Task) -> Subject:
    """Give what a fault rule may look at of a task."""
    return Subject(task.edit.prompt, (task.edit.video, *task.edit.references))


def _authenticate(world: World, request: Request) -> None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise refusal("InvalidApiKey", "No API-key provided.")
    if key.strip() != world.config.key:
        raise refusal("InvalidApiKey")
    workspace = request.headers.get("x-dashscope-workspace")
    if workspace and workspace not in world.config.workspaces:
        raise refusal("NOT AUTHORIZED")
