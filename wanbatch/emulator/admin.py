"""The emulator's own address, `/_emulator/`: look inside, turn its knobs. Not part of the vendor's API."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wanbatch.emulator.bill import Usage
from wanbatch.emulator.catalogue import refusal
from wanbatch.emulator.clock import utc_text
from wanbatch.emulator.faults import FaultError, read_faults
from wanbatch.emulator.limits import PROMPT_CHARS, RESOLUTIONS, VIDEO_SECONDS
from wanbatch.emulator.openapi import describe
from wanbatch.emulator.replies import json_reply
from wanbatch.emulator.task import Edit, Task
from wanbatch.emulator.world import World, origin

_MAX_STRANGERS: Final = 1000
_MAX_ADVANCE_S: Final = 366 * 24 * 3600


class Console:
    """The emulator's own operations on one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def bill(self, request: Request) -> Response:
        """Show what the account owes, as JSON or CSV."""
        bill = self._world.state.bill
        if request.query_params.get("format") == "csv":
            return Response(bill.csv(), media_type="text/csv")
        return json_reply({"rows": bill.rows(), "totals": bill.totals()})

    async def tasks(self, _: Request) -> Response:
        """Show every task still kept with all that is known of it."""
        return json_reply({"tasks": [_inside(task) for task in self._world.state.tasks()]})

    async def limits(self, _: Request) -> Response:
        """Show the busiest second of every operation, the most edits that ran at once, and how many calls came."""
        windows = self._world.windows
        peaks: dict[str, Any] = {f"{name}_per_second": window.peak for name, window in windows.items()}
        counts = {
            "calls": {name: window.calls for name, window in windows.items()},
            "throttled": {name: window.throttled for name, window in windows.items()},
        }
        return json_reply({**peaks, "running": self._world.state.running_peak, **counts})

    async def openapi(self, request: Request) -> Response:
        """Show the description of the public API."""
        return json_reply(describe(origin(request), self._world.config))

    async def reset(self, _: Request) -> Response:
        """Forget everything but the time."""
        self._world.reset()
        return json_reply({})

    async def clock(self, request: Request) -> Response:
        """Show the time, after skipping `advance` seconds of it when asked to."""
        world = self._world
        if request.method == "POST":
            seconds = _number(await _json(request), "advance")
            if not 0 <= seconds <= _MAX_ADVANCE_S:
                raise refusal("InvalidParameter", f"advance is 0 to {_MAX_ADVANCE_S} seconds.")
            world.clock.advance(float(seconds))
        now = world.state.now()
        world.workshop.kick()
        return json_reply({"now": utc_text(now), "speed": world.config.speed})

    async def strangers(self, request: Request) -> Response:
        """Create tasks of another client of the account."""
        body = await _json(request)
        count, seconds = _number(body, "count", 1), _number(body, "seconds", 5)
        if not 1 <= count <= _MAX_STRANGERS or not VIDEO_SECONDS[0] <= seconds <= VIDEO_SECONDS[1]:
            raise refusal("InvalidParameter", f"count is 1 to {_MAX_STRANGERS}, seconds 2 to 10.")
        resolution = body.get("resolution", "720P")
        if resolution not in RESOLUTIONS:
            raise refusal("InvalidParameter", "resolution is 720P or 1080P.")
        length = seconds.quantize(Decimal("0.01"))
        edit = Edit(
            model=self._world.config.model,
            prompt=str(body.get("prompt", "somebody else's edit"))[:PROMPT_CHARS],
            video=f"https://stranger.invalid/clip.mp4?seconds={length}",
            resolution=resolution,
        )
        task_ids = self._world.state.strange(int(count), edit, Usage(length, length))
        return json_reply({"task_ids": task_ids})

    async def faults(self, request: Request) -> Response:
        """Show the fault rules, after replacing (PUT) or dropping (DELETE) them."""
        world = self._world
        if request.method == "PUT":
            try:
                world.faults.replace(read_faults(await request.body()))
            except FaultError as error:
                raise refusal("InvalidParameter", str(error)) from None
        elif request.method == "DELETE":
            world.faults.replace(())
        return json_reply({"faults": world.faults.describe()})


def admin_routes(world: World) -> list[Route]:
    """Give the routes under `/_emulator/`."""
    console = Console(world)
    return [
        Route("/_emulator/bill", console.bill),
        Route("/_emulator/tasks", console.tasks),
        Route("/_emulator/limits", console.limits),
        Route("/_emulator/openapi.json", console.openapi),
        Route("/_emulator/reset", console.reset, methods=["POST"]),
        Route("/_emulator/clock", console.clock, methods=["GET", "POST"]),
        Route("/_emulator/strangers", console.strangers, methods=["POST"]),
        Route("/_emulator/faults", console.faults, methods=["GET", "PUT", "DELETE"]),
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
        "reference_images": [url[:2000] for url in edit.references],
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
