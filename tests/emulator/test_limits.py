"""Every published limit, at the moment the service would notice it."""

from decimal import Decimal
from typing import Any

import pytest

from wanbatch.emulator.limits import judge_image, judge_video
from wanbatch.emulator.render import ImageInfo, VideoInfo

from .kit import CLIP_URL, MODEL, SUBMIT, SUBMIT_HEADERS, Client, body

VIDEO = {"type": "video", "url": CLIP_URL}
IMAGE = {"type": "reference_image", "url": "https://files.example/hat.png"}
PIXEL = {"type": "reference_image", "url": "data:image/png;base64,iVBORw0KGgo="}


def with_media(*media: Any) -> dict[str, Any]:
    """Give a body with other media."""
    return {**body(), "input": {"prompt": "p", "media": list(media)}}


def with_input(**fields: Any) -> dict[str, Any]:
    """Give a body with further input fields."""
    return {**body(), "input": {**body()["input"], **fields}}


ACCEPTED: dict[str, Any] = {
    "no parameters": {"model": MODEL, "input": {"media": [VIDEO]}},
    "null parameters": {**body(), "parameters": None},
    "four reference images": with_media(VIDEO, *[IMAGE] * 4),
    "image before video": with_media(IMAGE, VIDEO),
    "Base64 image": with_media(VIDEO, PIXEL),
    "unknown fields": with_input(function="video-synthesis", extend_prompt=True),
    **{f"ratio {ratio}": body(ratio=ratio) for ratio in ("16:9", "9:16", "1:1", "4:3", "3:4")},
    **{f"duration {seconds}": body(duration=seconds) for seconds in (0, *range(2, 11))},
    **{f"audio {setting}": body(audio_setting=setting) for setting in ("auto", "origin")},
    **{
        f"{flag} {value}": body(**dict[str, Any]({flag: value}))
        for flag in ("prompt_extend", "watermark")
        for value in (True, False)
    },
    **{f"resolution {level}": body(resolution=level) for level in ("720P", "1080P")},
    **{f"seed {seed}": body(seed=seed) for seed in (0, 2147483647)},
}

REFUSED: dict[str, tuple[Any, int, str, str]] = {
    "no model": ({**body(), "model": None}, 400, "BadRequest.EmptyModel", "model"),
    "other model": ({**body(), "model": "wan9"}, 404, "ModelNotFound", "Model can not be found."),
    "no input": ({"model": MODEL}, 400, "BadRequest.EmptyInput", "input"),
    "input a list": ({**body(), "input": [1]}, 400, "InvalidParameter", "input"),
    "body a list": ([1], 400, "InvalidParameter", "Required body invalid"),
    "parameters a list": ({**body(), "parameters": [1]}, 400, "InvalidParameter", "parameters"),
    "no media": (
        {**body(), "input": {"prompt": "p"}},
        400,
        "InvalidParameter",
        "Field required: input.media",
    ),
    "empty media": (with_media(), 400, "InvalidParameter", "Field required: input.media"),
    "media an object": (with_input(media=VIDEO), 400, "InvalidParameter", "input.media"),
    "media of strings": (with_media(CLIP_URL), 400, "InvalidParameter", "input.media[0]"),
    "no video": (with_media(IMAGE), 400, "InvalidParameter", "exactly one video"),
    "two videos": (with_media(VIDEO, VIDEO), 400, "InvalidParameter", "exactly one video"),
    "five reference images": (with_media(VIDEO, *[IMAGE] * 5), 400, "InvalidParameter", "at most 4"),
    "no type": (
        with_media({"url": CLIP_URL}),
        400,
        "InvalidParameter",
        "Field required: input.media[0].type",
    ),
    "other type": (with_media({**VIDEO, "type": "first_frame"}), 400, "InvalidParameter", "media[0].type"),
    "no url": (with_media({"type": "video"}), 400, "InvalidParameter", "Field required: input.media[0].url"),
    "ftp url": (with_media({**VIDEO, "url": "ftp://a/b.mp4"}), 400, "InvalidParameter", "URL"),
    "url without host": (with_media({**VIDEO, "url": "https:///b.mp4"}), 400, "InvalidParameter", "URL"),
    "url broken": (with_media({**VIDEO, "url": "https://[::1/b"}), 400, "InvalidParameter", "URL"),
    "local path": (with_media({**VIDEO, "url": "clip.mp4"}), 400, "InvalidParameter", "URL"),
    "url a number": (with_media({**VIDEO, "url": 5}), 400, "InvalidParameter", "URL"),
    "oss unresolved": (with_media({**VIDEO, "url": "oss://a/b.mp4"}), 400, "InvalidParameter", "URL"),
    "Base64 video": (
        with_media({**VIDEO, "url": "data:video/mp4;base64,AAAA"}),
        400,
        "InvalidParameter",
        "URL",
    ),
    "Base64 GIF": (
        with_media(VIDEO, {**IMAGE, "url": "data:image/gif;base64,R0lG"}),
        400,
        "InvalidParameter",
        "URL",
    ),
    "prompt a number": (with_input(prompt=5), 400, "InvalidParameter", "input.prompt"),
    "negative prompt a list": (with_input(negative_prompt=[]), 400, "InvalidParameter", "negative_prompt"),
    "resolution 480P": (body(resolution="480P"), 400, "InvalidParameter", "resolution"),
    "resolution a number": (body(resolution=720), 400, "InvalidParameter", "resolution"),
    "ratio 21:9": (body(ratio="21:9"), 400, "InvalidParameter", "ratio"),
    **{
        f"duration {value!r}": (body(duration=value), 400, "InvalidParameter", "duration")
        for value in (1, 11, -1, 5.5, "5", True)
    },
    "audio loud": (body(audio_setting="loud"), 400, "InvalidParameter", "audio_setting"),
    "prompt_extend a string": (body(prompt_extend="true"), 400, "InvalidParameter", "prompt_extend"),
    "watermark a number": (body(watermark=1), 400, "InvalidParameter", "watermark"),
    **{
        f"seed {value!r}": (body(seed=value), 400, "InvalidParameter", "Range of seed should be")
        for value in (-1, 2147483648, 1.5, True)
    },
}


@pytest.mark.parametrize("content", ACCEPTED.values(), ids=ACCEPTED)
async def test_what_the_reference_allows_is_accepted(content: Any) -> None:
    """Every documented value, and the fields the vendor's SDK adds, make a task."""
    client = Client()
    assert await client.status(await client.accept(content)) == "RUNNING"


@pytest.mark.parametrize(("content", "status", "code", "message"), REFUSED.values(), ids=REFUSED)
async def test_what_the_reference_forbids_is_refused(
    content: Any, status: int, code: str, message: str
) -> None:
    """A breach the gateway can see is refused with the documented status and code, and makes no task."""
    client = Client()
    response = await client.submit(content)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert message in response.json()["message"]
    assert client.world.state.tasks() == []


LATE = {
    name: case for name, case in REFUSED.items() if case[2] in ("InvalidParameter", "BadRequest.EmptyInput")
}
LATE.pop("body a list")


@pytest.mark.parametrize(("content", "_status", "code", "message"), LATE.values(), ids=LATE)
async def test_the_same_breach_may_be_delivered_late(
    content: Any, _status: int, code: str, message: str
) -> None:
    """With late validation the task is accepted and FAILED with that code and message, unbilled."""
    client = Client(late_validation=True)
    answer = await client.finish(await client.accept(content))
    assert answer["output"]["task_status"] == "FAILED"
    assert answer["output"]["code"] == code
    assert message in answer["output"]["message"]
    assert client.world.state.bill.rows() == []


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' + b"1" * 5000 + b"}"], ids=repr)
async def test_a_body_that_is_no_json_is_refused(raw: bytes) -> None:
    """Whatever the bytes, the answer is the API's own 400."""
    client = Client()
    headers = {**SUBMIT_HEADERS, "Content-Type": "application/json; charset=utf-8"}
    response = await client.http.post(SUBMIT, content=raw, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "InvalidParameter")


async def test_long_prompts_are_cut_silently() -> None:
    """5,000 characters of the prompt and 500 of the negative one are kept, whatever the alphabet."""
    client = Client()
    content = with_input(prompt="狐" * 5001, negative_prompt="n" * 501)
    task_id = await client.accept(content)
    answer = await client.finish(task_id)
    assert answer["output"]["orig_prompt"] == "狐" * 5000
    inside = (await client.http.get("/_emulator/tasks")).json()["tasks"][0]
    assert len(inside["negative_prompt"]) == 500


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("something Forbidden here", "DataInspectionFailed"),
        ("a copyrighted mouse", "IPInfringementSuspect"),
    ],
)
async def test_moderation_goes_by_two_visible_words(prompt: str, code: str) -> None:
    """The words fail the task late and unbilled."""
    client = Client()
    answer = await client.finish(await client.accept(body(prompt)))
    assert (answer["output"]["task_status"], answer["output"]["code"]) == ("FAILED", code)
    assert client.world.state.bill.rows() == []


@pytest.mark.parametrize(
    ("seconds", "status"), [("1.99", "FAILED"), ("2", "SUCCEEDED"), ("10", "SUCCEEDED"), ("10.01", "FAILED")]
)
async def test_a_drawn_input_keeps_to_the_duration_limits(seconds: str, status: str) -> None:
    """Without rendering, `seconds=` in the address is the input's length, judged like a real one."""
    client = Client()
    answer = await client.finish(
        await client.accept(body(url=f"https://files.example/a.mp4?seconds={seconds}"))
    )
    assert answer["output"]["task_status"] == status
    assert answer["output"].get("code") == (None if status == "SUCCEEDED" else "InvalidFile.Duration")


def video(**facts: Any) -> VideoInfo:
    """Give a video within every limit but those given."""
    return VideoInfo(
        **{
            "format": "mp4",
            "codec": "h264",
            "width": 1280,
            "height": 720,
            "duration": Decimal("5.00"),
            "size": 10**6,
            "has_audio": True,
            **facts,
        }
    )


def image(**facts: Any) -> ImageInfo:
    """Give an image within every limit but those given."""
    return ImageInfo(
        **{"format": "png", "width": 800, "height": 600, "has_alpha": False, "size": 10**6, **facts}
    )


MEGABYTE = 1024 * 1024
VIDEOS: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({"format": "mov"}, None),
    ({"format": "avi"}, "InvalidFile.Format"),
    ({"duration": Decimal("2.00")}, None),
    ({"duration": Decimal("10.00")}, None),
    ({"duration": Decimal("1.99")}, "InvalidFile.Duration"),
    ({"duration": Decimal("10.01")}, "InvalidFile.Duration"),
    ({"width": 240, "height": 240}, None),
    ({"width": 239, "height": 240}, "InvalidFile.Resolution"),
    ({"width": 4096, "height": 4096}, None),
    ({"width": 4097, "height": 4096}, "InvalidFile.Resolution"),
    ({"width": 1920, "height": 240}, None),
    ({"width": 240, "height": 1920}, None),
    ({"width": 1921, "height": 240}, "InvalidFile.AspectRatio"),
    ({"width": 240, "height": 1921}, "InvalidFile.AspectRatio"),
    ({"size": 100 * MEGABYTE}, None),
    ({"size": 100 * MEGABYTE + 1}, "InvalidFile.Size"),
]
IMAGES: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    *(({"format": name}, None) for name in ("jpeg", "bmp", "webp")),
    ({"format": "gif"}, "InvalidFile.Format"),
    ({"has_alpha": True}, "InvalidFile.Format"),
    ({"has_alpha": True, "format": "webp"}, None),
    ({"width": 240, "height": 240}, None),
    ({"width": 240, "height": 239}, "InvalidFile.Resolution"),
    ({"width": 8000, "height": 8000}, None),
    ({"width": 8001, "height": 8000}, "InvalidFile.Resolution"),
    ({"width": 8000, "height": 1000}, None),
    ({"width": 8000, "height": 999}, "InvalidFile.AspectRatio"),
    ({"size": 20 * MEGABYTE}, None),
    ({"size": 20 * MEGABYTE + 1}, "InvalidFile.Size"),
]


@pytest.mark.parametrize(("facts", "code"), VIDEOS, ids=str)
def test_every_video_limit(facts: dict[str, Any], code: str | None) -> None:
    """On the limit is in, one step beyond is out, under the documented code."""
    verdict = judge_video(video(**facts))
    assert (verdict and verdict.code) == code


@pytest.mark.parametrize(("facts", "code"), IMAGES, ids=str)
def test_every_image_limit(facts: dict[str, Any], code: str | None) -> None:
    """On the limit is in, one step beyond is out, under the documented code."""
    verdict = judge_image(image(**facts))
    assert (verdict and verdict.code) == code
