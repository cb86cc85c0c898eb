"""The vendor's own SDK, unmodified, judges the emulator."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from wanbatch.emulator import Emulator, EmulatorConfig, in_thread, parse_fault

from .kit import MODEL, make_clip, make_image

os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"

import dashscope
from dashscope.aigc.video_synthesis import AioVideoSynthesis, VideoSynthesis
from dashscope.api_entities.aio_session import close_shared_aio_session

KEY = "sk-emulator"
FAST: dict[str, Any] = {"speed": 1000, "submit_rate": 0, "query_rate": 0}
REMOTE = "https://files.example/clip.mp4?seconds=5.02"


def media(url: str = REMOTE, *images: str) -> list[dict[str, str]]:
    """Give the SDK's media list; the SDK changes it in place."""
    return [{"type": "video", "url": url}, *({"type": "reference_image", "url": image} for image in images)]


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Serve an emulator that draws its results, and point the SDK at it."""
    with in_thread(EmulatorConfig(render=False, **FAST)) as served:
        monkeypatch.setattr(dashscope, "base_http_api_url", served.url)
        monkeypatch.setattr(dashscope, "api_key", KEY)
        yield served


@pytest.fixture
def rendering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Serve an emulator that renders."""
    with in_thread(EmulatorConfig(**FAST)) as served:
        monkeypatch.setattr(dashscope, "base_http_api_url", served.url)
        monkeypatch.setattr(dashscope, "api_key", KEY)
        yield served


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[str, str]:
    """Give the paths of a local clip and a local image."""
    return str(make_clip(tmp_path / "clip.mp4")), f"file://{make_image(tmp_path / 'hat.png')}"


def test_the_classic_client(emulator: Emulator) -> None:
    """Submit, fetch, wait and list through VideoSynthesis."""
    created = VideoSynthesis.async_call(
        MODEL,
        prompt="make it claymation",
        media=media(),
        resolution="720P",
        duration=3,
        audio_setting="origin",
    )
    assert (created.status_code, created.output.task_status) == (200, "PENDING"), created
    fetched = VideoSynthesis.fetch(created)
    assert fetched.output.task_status in ("RUNNING", "SUCCEEDED")
    done = VideoSynthesis.wait(created)
    assert done.output.task_status == "SUCCEEDED"
    assert done.output.orig_prompt == "make it claymation"
    assert done.output.video_url.startswith(f"{emulator.origin}/results/")
    assert (done.usage.duration, done.usage.output_video_duration, done.usage.SR) == (8.02, 3.0, 720)
    listed = VideoSynthesis.list(model_name=MODEL, status="SUCCEEDED")
    assert (listed.output["total"], listed.output["data"][0]["task_id"]) == (1, created.output.task_id)
    assert len(emulator.state.bill.rows()) == 1


def test_the_classic_client_cancels_and_sees_failures(emulator: Emulator) -> None:
    """A waiting task is cancelled, a running one is not; a failed one shows its code in the output."""
    emulator.faults.replace([parse_fault("pending-for-ever:nth=1"), parse_fault("running-for-ever:nth=2")])
    waiting, stuck = (VideoSynthesis.async_call(MODEL, prompt="p", media=media()) for _ in range(2))
    assert VideoSynthesis.cancel(waiting).status_code == 200
    assert VideoSynthesis.fetch(waiting).output.task_status == "CANCELED"
    refused = VideoSynthesis.cancel(stuck)
    assert (refused.status_code, refused.code) == (400, "UnsupportedOperation")
    failed = VideoSynthesis.wait(VideoSynthesis.async_call(MODEL, prompt="forbidden", media=media()))
    assert (failed.status_code, failed.output.task_status) == (200, "FAILED")
    assert failed.output.code == "DataInspectionFailed"


def test_the_classic_client_reads_refusals(emulator: Emulator) -> None:
    """Status, code and message arrive as the service words them."""
    refused = VideoSynthesis.async_call(MODEL, prompt="p", media=media(), resolution="480P")
    assert (refused.status_code, refused.code) == (400, "InvalidParameter")
    assert "resolution" in refused.message
    refused = VideoSynthesis.async_call(MODEL, prompt="p", media=media(), api_key="sk-other")
    assert (refused.status_code, refused.code) == (401, "InvalidApiKey")
    assert emulator.state.tasks() == []


def test_the_classic_client_uploads_local_files(rendering: Emulator, inputs: tuple[str, str]) -> None:
    """A local clip and image go to the upload space and are rendered from there, call to result."""
    clip, image = inputs
    done = VideoSynthesis.call(MODEL, prompt="p", media=media(clip, image), resolution="720P", ratio="1:1")
    assert done.output.task_status == "SUCCEEDED", done
    assert done.usage.duration == 4.0
    (task,) = rendering.state.tasks()
    assert all(url.startswith("oss://dashscope-instant/") for url in (task.edit.video, *task.edit.references))


@pytest.fixture
async def session() -> AsyncIterator[None]:
    """Close the SDK's connections in the end, which it leaves to its user."""
    yield
    await close_shared_aio_session()


@pytest.mark.usefixtures("session")
async def test_the_classic_async_client(emulator: Emulator) -> None:
    """Submit, fetch, wait, list and cancel through AioVideoSynthesis, trailing slashes and all."""
    created = await AioVideoSynthesis.async_call(MODEL, prompt="p", media=media(), resolution="720P")
    assert created.output.task_status == "PENDING"
    assert (await AioVideoSynthesis.fetch(created)).status_code == 200
    done = await AioVideoSynthesis.wait(created)
    assert (done.output.task_status, done.usage.duration) == ("SUCCEEDED", 10.04)
    assert (await AioVideoSynthesis.list()).output["total"] == 1
    refused = await AioVideoSynthesis.cancel(created)
    assert (refused.status_code, refused.code) == (400, "UnsupportedOperation")
    called = await AioVideoSynthesis.call(MODEL, prompt="p", media=media(), resolution="1080P")
    assert (called.output.task_status, called.usage.SR) == ("SUCCEEDED", 1080)
    assert len(emulator.state.bill.rows()) == 2


def test_a_lost_answer_makes_the_sdk_pay_twice(emulator: Emulator) -> None:
    """The SDK sends a dropped submit again: the emulator's bill shows two edits for one wish."""
    emulator.faults.replace([parse_fault("accept-then-drop:nth=1")])
    VideoSynthesis.async_call(MODEL, prompt="p", media=media(), resolution="720P")
    emulator.clock.advance(300)
    assert len(emulator.state.bill.rows()) == 2


def test_the_new_client(emulator: Emulator) -> None:
    """Create, fetch, wait, list and cancel through Client().videos."""
    with dashscope.Client(api_key=KEY, base_url=emulator.url) as client:
        job = client.videos.jobs.create(
            model=MODEL,
            prompt="make it claymation",
            media=media(),
            resolution="720P",
            ratio="16:9",
            watermark=True,
            parameters={"audio_setting": "origin"},
            extra_input={"negative_prompt": "blur"},
        )
        assert client.videos.jobs.fetch(job.job_id).job_id == job.job_id
        done = client.videos.jobs.wait(job.job_id)
        assert done.succeeded
        assert str(done.video_url).startswith(f"{emulator.origin}/results/")
        assert client.videos.jobs.list(model_name=MODEL).total == 1
        with pytest.raises(Exception, match="Failed to cancel the task"):
            client.videos.jobs.cancel(job.job_id)
    (task,) = emulator.state.tasks()
    assert (task.edit.negative_prompt, task.edit.watermark, task.edit.ratio) == ("blur", True, "16:9")


def test_the_new_client_uploads_local_files(rendering: Emulator, inputs: tuple[str, str]) -> None:
    """A local clip reaches the task as an `oss://` address."""
    with dashscope.Client(api_key=KEY, base_url=rendering.url) as client:
        job = client.videos.jobs.create(model=MODEL, prompt="p", media=media(inputs[0]), resolution="720P")
        assert client.videos.jobs.wait(job.job_id).succeeded
    assert rendering.state.tasks()[0].edit.video.startswith("oss://")


@pytest.mark.usefixtures("session")
async def test_many_waiters_share_the_slots(emulator: Emulator) -> None:
    """Twenty edits at once: never more than five run, and all are billed once."""
    jobs = (
        AioVideoSynthesis.call(MODEL, prompt=f"edit {n}", media=media(), resolution="720P") for n in range(20)
    )
    done = await asyncio.gather(*jobs)
    assert [answer.output.task_status for answer in done] == ["SUCCEEDED"] * 20
    assert emulator.state.running_peak == 5
    assert len(emulator.state.bill.rows()) == 20
