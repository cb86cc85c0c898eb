"""Real inputs, fetched, judged and rendered."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from wanbatch.emulator import Emulator, EmulatorConfig, in_thread, running
from wanbatch.emulator.render import inspect_video

from .kit import KEY, SUBMIT_HEADERS, Client, body, make_clip, make_image

SUBMIT = "/services/aigc/video-generation/video-synthesis"
FAST: dict[str, Any] = {"speed": 1000, "submit_rate": 0, "query_rate": 0}


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of small inputs, good and bad."""
    folder = tmp_path_factory.mktemp("media")
    make_clip(folder / "good.mp4")
    make_clip(folder / "good.mov", seconds=3)
    make_clip(folder / "short.mp4", seconds=1)
    make_clip(folder / "narrow.mp4", size=(200, 320))
    make_image(folder / "hat.png")
    make_image(folder / "alpha.png", mode="RGBA")
    make_image(folder / "tiny.jpg", size=(100, 100))
    make_image(folder / "moving.gif")
    (folder / "text.mp4").write_text("not a video")
    (folder.parent / "secret.mp4").write_bytes((folder / "good.mp4").read_bytes())
    return folder


@pytest.fixture
async def emulator(media: Path) -> AsyncIterator[Emulator]:
    """Serve a rendering emulator a thousand times as fast as life."""
    async with running(EmulatorConfig(media=media, **FAST)) as served:
        yield served


async def settle(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    """Query until the task is final."""
    while True:
        answer: dict[str, Any] = (await client.get(f"tasks/{task_id}")).json()
        if answer["output"]["task_status"] not in ("PENDING", "RUNNING"):
            return answer
        await asyncio.sleep(0.02)


async def edit(emulator: Emulator, video: str, *images: str, **parameters: Any) -> dict[str, Any]:
    """Submit an edit and wait for its end; bare names are files under the emulator's `/media/`."""
    urls = [url if ":" in url else f"{emulator.origin}/media/{url}" for url in (video, *images)]
    content = body(url=urls[0], **parameters)
    content["input"]["media"] += [{"type": "reference_image", "url": url} for url in urls[1:]]
    headers = {**SUBMIT_HEADERS, "X-DashScope-OssResourceResolve": "enable"}
    async with httpx.AsyncClient(base_url=emulator.url, headers=headers, trust_env=False) as client:
        created = await client.post(SUBMIT, json=content)
        assert created.status_code == 200, created.text
        return await settle(client, created.json()["output"]["task_id"])


async def test_an_edit_is_really_rendered(emulator: Emulator, tmp_path: Path) -> None:
    """The result has the table's size and the usage's length, and comes with true checksums."""
    answer = await edit(emulator, "good.mov", "hat.png", ratio="1:1", duration=2, seed=1)
    assert answer["output"]["task_status"] == "SUCCEEDED", answer
    assert answer["usage"] == {
        "duration": 5.0,
        "input_video_duration": 3.0,
        "output_video_duration": 2.0,
        "video_count": 1,
        "SR": 720,
    }
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(answer["output"]["video_url"])
    (tmp_path / "result.mp4").write_bytes(response.content)
    info = inspect_video(tmp_path / "result.mp4")
    assert (info.width, info.height, info.duration, info.codec) == (960, 960, Decimal("2.00"), "h264")


@pytest.mark.parametrize(
    ("inputs", "code", "message"),
    [
        (["short.mp4"], "InvalidFile.Duration", "2 s ~ 10 s"),
        (["narrow.mp4"], "InvalidFile.Resolution", "video resolution"),
        (["text.mp4"], "InvalidParameter", "Invalid video file."),
        (["missing.mp4"], "InvalidParameter", "Failed to download http"),
        (["../secret.mp4"], "InvalidParameter", "Failed to download http"),
        (["%2e%2e/secret.mp4"], "InvalidParameter", "Failed to download http"),
        (
            ["http://127.0.0.1:9/clip.mp4"],
            "InvalidParameter",
            "Failed to download http://127.0.0.1:9/clip.mp4",
        ),
        (["good.mp4", "alpha.png"], "InvalidFile.Format", "alpha"),
        (["good.mp4", "tiny.jpg"], "InvalidFile.Resolution", "image resolution"),
        (["good.mp4", "moving.gif"], "InvalidFile.Format", "format"),
        (["good.mp4", "text.mp4"], "InvalidParameter", "read image error."),
        (["good.mp4", "data:image/png;base64,!!!"], "InvalidParameter", "read image error."),
        (["good.mp4", "data:image/png;base64,AAAA"], "InvalidParameter", "read image error."),
    ],
    ids=str,
)
async def test_what_needs_the_bytes_fails_late(
    emulator: Emulator, inputs: list[str], code: str, message: str
) -> None:
    """Accepted at submit, FAILED with the documented code once the bytes are seen, unbilled."""
    answer = await edit(emulator, *inputs)
    assert (answer["output"]["task_status"], answer["output"]["code"]) == ("FAILED", code)
    assert message in answer["output"]["message"]
    assert emulator.state.bill.rows() == []


async def test_inputs_come_from_other_hosts_too(emulator: Emulator, media: Path) -> None:
    """An http address elsewhere is really fetched; a Base64 image is decoded."""
    async with running(EmulatorConfig(media=media)) as elsewhere:
        image = base64.b64encode((media / "hat.png").read_bytes()).decode()
        video = f"{elsewhere.origin}/media/good.mp4"
        answer = await edit(emulator, video, f"data:image/png;base64,{image}")
    assert answer["output"]["task_status"] == "SUCCEEDED", answer
    shown = emulator.state.tasks()[0].edit.references[0]
    assert len(shown) <= 40


async def test_a_download_stops_at_the_size_limit(emulator: Emulator, tmp_path: Path) -> None:
    """An image of more than 20 MB elsewhere is given up under the documented code."""
    (tmp_path / "huge.png").write_bytes(bytes(21 << 20))
    async with running(EmulatorConfig(media=tmp_path)) as elsewhere:
        answer = await edit(emulator, "good.mp4", f"{elsewhere.origin}/media/huge.png")
    assert answer["output"]["code"] == "InvalidFile.Size"
    assert "20MB" in answer["output"]["message"]


async def test_a_result_is_ready_no_sooner_than_drawn(media: Path) -> None:
    """However quick the rendering, the task runs for its drawn time."""
    client = Client(render=True, media=media)
    task_id = await client.accept(body(url="http://emulator.test/media/good.mp4"))
    await client.world.workshop.join()
    client.advance(59)
    assert await client.status(task_id) == "RUNNING"
    client.advance(241)
    assert await client.status(task_id) == "SUCCEEDED"
    await client.world.aclose()


def files(folder: Path) -> list[str]:
    """Give the names of all files below a folder."""
    return [path.name for path in folder.rglob("*") if path.is_file()]


async def test_result_files_go_with_their_tasks(media: Path, tmp_path: Path) -> None:
    """A rendered file is deleted when its task expires, and the folder when the emulator stops."""
    client = Client(render=True, media=media, results=tmp_path)
    task_id = await client.accept(body(url="http://emulator.test/media/good.mp4"))
    await client.world.workshop.join()
    client.advance(300)
    assert await client.status(task_id) == "SUCCEEDED"
    assert files(tmp_path) == [f"{task_id}.mp4"]
    client.advance(24 * 3600)
    assert await client.status(task_id) == "UNKNOWN"
    assert files(tmp_path) == []
    await client.world.aclose()
    assert files(tmp_path) == []


async def test_media_are_served_whole_and_in_part(emulator: Emulator, media: Path) -> None:
    """Files under the folder, ranges too; nothing above it."""
    async with httpx.AsyncClient(base_url=emulator.origin, trust_env=False) as client:
        whole = await client.get("/media/good.mp4")
        assert whole.content == (media / "good.mp4").read_bytes()
        part = await client.get("/media/good.mp4", headers={"Range": "bytes=0-9"})
        assert (part.status_code, part.content) == (206, whole.content[:10])
        assert (await client.get("/media/%2e%2e/secret.mp4")).status_code == 404


def test_an_emulator_in_a_thread_serves_blocking_clients() -> None:
    """A client that blocks its own thread is answered from the other."""
    with in_thread(EmulatorConfig(speed=0, render=False)) as emulator:
        response = httpx.post(emulator.url + SUBMIT, json=body(), headers=SUBMIT_HEADERS, trust_env=False)
        task_id = response.json()["output"]["task_id"]
        emulator.clock.advance(300)
        answer = httpx.get(f"{emulator.url}/tasks/{task_id}", headers=KEY, trust_env=False)
        assert answer.json()["output"]["task_status"] == "SUCCEEDED"
        assert json.loads(answer.text)["usage"]["duration"] == 10.04
    with pytest.raises(httpx.ConnectError):
        httpx.get(emulator.url, trust_env=False)
