"""The emulator's own address, `/_emulator/`: look inside, turn its knobs. Not part of the vendor's API."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wanbatch.emulator.bill import Usage
from wanbatch.emulator.catalogue import refusal
from wanbatch.emulator.clock import utc_text
from wanbatch.emulator.faults import FaultError, read_faults
from wanbatch.emulator.openapi import describe
from wanbatch.emulator.replies import json_reply
from wanbatch.emulator.state import Edit, Task
from wanbatch.emulator.world import World, origin

_MAX_STRANGERS = 1000


def admin_routes(world: World) -> list[Route]:
    """Give the routes under `/_emulator/`."""

    def bill(request: Request) -> Response:
        world.state.now()
        account = world.state.bill
        if request.query_params.get("format") == "csv":
            return Response(account.csv(), media_type="text/csv")
        return json_reply({"rows": account.rows(), "totals": account.totals()})

    def tasks(_: Request) -> Response:
        return json_reply({"tasks": [_inside(task) for task in world.state.tasks()]})

    def reset(_: Request) -> Response:
        world.reset()
        return json_reply({})

    def limits(_: Request) -> Response:
        peaks = {f"{name}_per_second": window.peak for name, window in world.windows.items()}
        return json_reply({**peaks, "running": world.state.running_peak})

    def clock(_: Request) -> Response:
        return json_reply({"now": utc_text(world.state.now()), "speed": world.config.speed})

    def openapi(request: Request) -> Response:
        return json_reply(describe(origin(request), world.config))

    async def advance(request: Request) -> Response:
        seconds = _number(await _json(request), "advance")
        if not 0 <= seconds <= 10**9:
            raise refusal("InvalidParameter", "advance is a number of seconds, not negative.")
        world.clock.advance(float(seconds))
        now = world.state.now()
        world.workshop.kick()
        return json_reply({"now": utc_text(now), "speed": world.config.speed})

    async def strangers(request: Request) -> Response:
        body = await _json(request)
        count, seconds = int(_number(body, "count", 1)), _number(body, "seconds", 5)
        if not 1 <= count <= _MAX_STRANGERS or not 2 <= seconds <= 10:  # noqa: PLR2004  the service's own
            raise refusal("InvalidParameter", f"count is 1 to {_MAX_STRANGERS}, seconds 2 to 10.")
        length = seconds.quantize(Decimal("0.01"))
        edit = Edit(
            model=world.config.model,
            prompt=str(body.get("prompt", "somebody else's edit")),
            video=f"https://stranger.invalid/clip.mp4?seconds={length}",
            resolution="1080P" if body.get("resolution") == "1080P" else "720P",
        )
        return json_reply({"task_ids": world.state.strange(count, edit, Usage(length, length))})

    async def faults(request: Request) -> Response:
        if request.method == "PUT":
            try:
                world.faults.replace(read_faults(await request.body()))
            except FaultError as error:
                raise refusal("InvalidParameter", str(error)) from None
        elif request.method == "DELETE":
            world.faults.replace(())
        return json_reply({"faults": world.faults.describe()})

    return [
        Route("/_emulator/bill", bill),
        Route("/_emulator/tasks", tasks),
        Route("/_emulator/limits", limits),
        Route("/_emulator/openapi.json", openapi),
        Route("/_emulator/reset", reset, methods=["POST"]),
        Route("/_emulator/clock", clock, methods=["GET"]),
        Route("/_emulator/clock", advance, methods=["POST"]),
        Route("/_emulator/strangers", strangers, methods=["POST"]),
        Route("/_emulator/faults", faults, methods=["GET", "PUT", "DELETE"]),
    ]


def _inside(task: Task) -> dict[str, Any]:
    edit = task.edit
    return {
        "task_id": task.task_id,
        "request_id": task.request_id,
        "who": task.who,
        "status": task.status.value,
        "prompt": edit.prompt,
        "negative_prompt": edit.negative_prompt,
        "video": edit.video,
        "reference_images": [url[:200] for url in edit.references],
        "parameters": {
            "resolution": edit.resolution,
            "ratio": edit.ratio,
            "duration": edit.duration,
            "audio_setting": edit.audio_setting,
            "prompt_extend": edit.prompt_extend,
            "watermark": edit.watermark,
            "seed": edit.seed,
        },
        "submitted_at": utc_text(task.submitted),
        "scheduled_at": None if task.scheduled is None else utc_text(task.scheduled),
        "ended_at": None if task.ended is None else utc_text(task.ended),
    }


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise refusal("InvalidParameter", "The body is a JSON object.")
    return body


def _number(body: dict[str, Any], name: str, usual: int | None = None) -> Decimal:
    try:
        number = Decimal(str(body.get(name, usual)))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise refusal("InvalidParameter", f"{name} is a number.")
    return number
