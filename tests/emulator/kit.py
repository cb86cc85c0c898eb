"""What the emulator's tests share: requests, clips, an app in the same process."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
from PIL import Image
from starlette.applications import Starlette

from wanbatch.emulator import EmulatorConfig, create_app
from wanbatch.emulator.world import World

START = datetime(2026, 4, 2, 16, 8, 3, 576000, tzinfo=UTC)
MODEL = "wan2.7-videoedit"
SUBMIT = "/api/v1/services/aigc/video-generation/video-synthesis"
KEY = {"Authorization": "Bearer sk-emulator"}
SUBMIT_HEADERS = {**KEY, "X-DashScope-Async": "enable"}
SAMPLES = Path(__file__).parent.parent / "samples"
CLIP_URL = "https://files.example/clip.mp4?seconds=5.02"


def body(prompt: str = "make it claymation", *, url: str = CLIP_URL, **parameters: Any) -> dict[str, Any]:
    """Give a submit's body with one video."""
    media = [{"type": "video", "url": url}]
    parameters = {"resolution": "720P", **parameters}
    return {"model": MODEL, "input": {"prompt": prompt, "media": media}, "parameters": parameters}


def world_of(app: Starlette) -> World:
    """Give what is behind an app."""
    assert isinstance(app.state.world, World)
    return app.state.world


class Client:
    """A plain HTTP client of an emulator in the same process, whose clock stands still until told."""

    def __init__(self, **settings: Any) -> None:
        config = EmulatorConfig(**{"speed": 0, "start": START, "render": False, **settings})
        app = create_app(config)
        self.world = world_of(app)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://emulator.test")

    async def submit(self, content: Mapping[str, Any] | None = None, **headers: str) -> httpx.Response:
        """Submit an edit with the key."""
        content = body() if content is None else content
        return await self.http.post(SUBMIT, json=content, headers={**SUBMIT_HEADERS, **headers})

    async def accept(self, content: Mapping[str, Any] | None = None) -> str:
        """Submit an edit that is accepted; gives its task id."""
        response = await self.submit(content)
        assert response.status_code == 200, response.text
        return str(response.json()["output"]["task_id"])

    async def get(self, path: str, **parameters: Any) -> httpx.Response:
        """Ask something of the API, with the key."""
        return await self.http.get(f"/api/v1/{path}", params=parameters, headers=KEY)

    async def task(self, task_id: str) -> dict[str, Any]:
        """Query a task."""
        response = await self.get(f"tasks/{task_id}")
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def status(self, task_id: str) -> str:
        """Give a task's status."""
        return str((await self.task(task_id))["output"]["task_status"])

    async def cancel(self, task_id: str) -> httpx.Response:
        """Try to cancel a task."""
        return await self.http.post(f"/api/v1/tasks/{task_id}/cancel", headers=KEY)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.world.clock.advance(seconds)

    async def finish(self, task_id: str) -> dict[str, Any]:
        """Let the longest run time pass and query the task."""
        self.advance(300)
        return await self.task(task_id)


def sample(name: str) -> Any:
    """Read a sample payload."""
    return json.loads((SAMPLES / f"{name}.json").read_text())


def shape(value: Any) -> Any:
    """Give a JSON value's shape: its keys and the types of its leaves."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def make_clip(path: Path, *, seconds: float = 2, size: tuple[int, int] = (320, 240)) -> Path:
    """Write a grey H.264 clip of 10 frames a second."""
    with av.open(str(path), "w", format="mov" if path.suffix == ".mov" else "mp4") as target:
        stream = target.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(round(seconds * 10)):
            picture = Image.new("RGB", size, (number, 90, 90))
            frame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]  # PyAV leaves it untyped
            frame.pts, frame.time_base = number, Fraction(1, 10)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return path


def make_image(path: Path, *, size: tuple[int, int] = (320, 240), mode: str = "RGB") -> Path:
    """Write a picture in the format its name says."""
    Image.new(mode, size).save(path)
    return path
