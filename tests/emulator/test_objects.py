"""The object store: signed results, ranges, checksums, and the upload space."""

import asyncio
import base64
import hashlib
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import fastcrc
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanbatch.emulator.oss import OssError, read_range
from wanbatch.emulator.render import inspect_video

from .kit import KEY, MODEL, Client, body, sample, shape


async def finished(**settings: Any) -> tuple[Client, str]:
    """Give a client and the address of a finished result."""
    client = Client(**settings)
    answer = await client.finish(await client.accept())
    return client, str(answer["output"]["video_url"])


async def test_a_result_is_a_real_video_of_the_billed_length(tmp_path: Path) -> None:
    """What is downloaded opens as H.264 and lasts as long as the usage says."""
    client, url = await finished()
    path = tmp_path / "result.mp4"
    path.write_bytes((await client.http.get(url)).content)
    info = inspect_video(path)
    assert (info.codec, info.format, info.duration) == ("h264", "mp4", Decimal("5.02"))


async def test_a_result_carries_its_checksums() -> None:
    """Length, upper-case MD5 as ETag, Base64 MD5 and CRC-64 agree with the bytes; HEAD says the same."""
    client, url = await finished()
    response = await client.http.get(url)
    digest = hashlib.md5(response.content).digest()  # noqa: S324  the store's own
    assert response.headers["content-type"] == "video/mp4"
    assert response.headers["content-length"] == str(len(response.content))
    assert response.headers["etag"] == f'"{digest.hex().upper()}"'
    assert response.headers["content-md5"] == base64.b64encode(digest).decode()
    assert response.headers["x-oss-hash-crc64ecma"] == str(fastcrc.crc64.xz(response.content))
    assert response.headers["accept-ranges"] == "bytes"
    assert len(response.headers["x-oss-request-id"]) == 24
    head = await client.http.head(url)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "content-md5", "x-oss-hash-crc64ecma", "last-modified"):
        assert head.headers[name] == response.headers[name]


async def test_the_address_expires_a_day_after_the_end() -> None:
    """Expires is epoch seconds in the address; from then on the store answers 403 in XML."""
    client, url = await finished(retention="end", mean_run_s=100, min_run_s=100, max_run_s=100)
    parameters = parse_qs(urlsplit(url).query)
    assert set(parameters) == {"Expires", "OSSAccessKeyId", "Signature"}
    left = int(parameters["Expires"][0]) - client.world.clock() / 1000
    assert left == pytest.approx(24 * 3600 - 200, abs=1)
    client.advance(left - 0.5)
    assert (await client.http.get(url)).status_code == 200
    client.advance(0.5)
    response = await client.http.get(url)
    assert (response.status_code, response.headers["content-type"].partition(";")[0]) == (
        403,
        "application/xml",
    )
    assert "<Code>AccessDenied</Code>" in response.text
    assert "<Message>Request has expired.</Message>" in response.text
    assert f"<RequestId>{response.headers['x-oss-request-id']}</RequestId>" in response.text


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("Signature=", "Signature=x", "SignatureDoesNotMatch"),
        ("Expires=", "Expires=9", "SignatureDoesNotMatch"),
        ("OSSAccessKeyId=", "OSSAccessKeyId=x", "InvalidAccessKeyId"),
        ("/results/1d/", "/results/2d/", "SignatureDoesNotMatch"),
        ("Signature=", "Nothing=", "AccessDenied"),
        ("Expires=", "Expires=%00%F0", "SignatureDoesNotMatch"),
    ],
)
async def test_a_forged_address_is_refused(old: str, new: str, code: str) -> None:
    """Any change to the path, the time, the key or the signature is 403."""
    client, url = await finished()
    response = await client.http.get(url.replace(old, new))
    assert response.status_code == 403
    assert f"<Code>{code}</Code>" in response.text


async def test_the_api_key_has_no_business_at_the_store() -> None:
    """An Authorization header beside the signature is refused, as the store does."""
    client, url = await finished()
    response = await client.http.get(url, headers=KEY)
    assert response.status_code == 400
    assert "<Code>InvalidArgument</Code>" in response.text


@pytest.mark.parametrize(
    ("header", "expected", "standard"),
    [
        (None, None, None),
        ("bytes=0-499", (0, 499), (0, 499)),
        ("bytes=500-", (500, 999), (500, 999)),
        ("bytes=-100", (900, 999), (900, 999)),
        ("bytes=0-499,600-700", (0, 499), (0, 499)),
        ("bytes=0-999", (0, 999), (0, 999)),
        ("bytes=0-1000", None, (0, 999)),
        ("bytes=-2000", None, (0, 999)),
        ("bytes=500-100", None, None),
        ("bytes=-", None, None),
        ("byte=0-499", None, None),
        ("bytes=a-b", None, None),
        ("bytes=" + "9" * 5000 + "-", None, None),
    ],
)
def test_a_bad_range_is_no_range(
    header: str | None, expected: tuple[int, int] | None, standard: tuple[int, int] | None
) -> None:
    """Of 1,000 bytes: a range out of bounds gives the whole object; the standard manner cuts it."""
    assert read_range(header, 1000, standard=False) == expected
    assert read_range(header, 1000, standard=True) == standard


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-2000", "bytes=-0"])
def test_an_empty_range_is_416_only_in_the_standard_manner(header: str) -> None:
    """With nothing to give, the store gives everything, unless asked for the standard."""
    assert read_range(header, 1000, standard=False) is None
    with pytest.raises(OssError, match="416"):
        read_range(header, 1000, standard=True)


@given(st.text(alphabet="bytes=-,0123456789 ", max_size=20), st.integers(1, 2000), st.booleans())
def test_a_range_stays_within_the_object(header: str, size: int, standard: bool) -> None:  # noqa: FBT001  drawn
    """Whatever the header says, no byte outside the object is promised."""
    try:
        part = read_range(f"bytes={header}", size, standard=standard)
    except OssError:
        return
    assert part is None or 0 <= part[0] <= part[1] < size


async def test_ranges_over_http() -> None:
    """206 with Content-Range and the whole object's checksum; out of bounds 200, or 416 when asked for."""
    client, url = await finished()
    whole = await client.http.get(url)
    size = len(whole.content)
    part = await client.http.get(url, headers={"Range": "bytes=100-"})
    assert (part.status_code, part.content) == (206, whole.content[100:])
    assert part.headers["content-range"] == f"bytes 100-{size - 1}/{size}"
    assert part.headers["x-oss-hash-crc64ecma"] == whole.headers["x-oss-hash-crc64ecma"]
    beyond = await client.http.get(url, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.content) == (200, whole.content)
    headers = {"Range": f"bytes={size}-", "x-oss-range-behavior": "standard"}
    assert (await client.http.get(url, headers=headers)).status_code == 416


# The upload space.


async def policy(client: Client) -> dict[str, Any]:
    """Get an upload credential."""
    response = await client.get("uploads", action="getPolicy", model=MODEL)
    assert shape(response.json()) == shape(sample("emulator_upload_policy"))
    data: dict[str, Any] = response.json()["data"]
    return data


def form(data: dict[str, Any], name: str = "clip.mp4") -> dict[str, str]:
    """Give the form fields of an upload."""
    return {
        "OSSAccessKeyId": data["oss_access_key_id"],
        "Signature": data["signature"],
        "policy": data["policy"],
        "key": f"{data['upload_dir']}/{name}",
        "x-oss-object-acl": data["x_oss_object_acl"],
        "x-oss-forbid-overwrite": data["x_oss_forbid_overwrite"],
        "success_action_status": "200",
    }


async def send(
    client: Client, data: dict[str, Any], fields: dict[str, str], content: bytes = b"clip"
) -> httpx.Response:
    """Post a form with a file."""
    return await client.http.post(
        data["upload_host"], data=fields, files={"file": ("clip.mp4", io.BytesIO(content))}
    )


async def test_an_upload_can_be_submitted_with_the_resolve_header() -> None:
    """200 without a body; then `oss://key` is a valid input for 48 hours, with the header only."""
    client = Client()
    data = await policy(client)
    response = await send(client, data, form(data))
    assert (response.status_code, response.content) == (200, b"")
    key = form(data)["key"]
    assert client.world.uploads.find(key, client.world.clock()) is not None
    content = body(url=f"oss://{key}")
    assert (await client.submit(content)).status_code == 400
    assert (await client.submit(content, **{"X-DashScope-OssResourceResolve": "enable"})).status_code == 200
    client.advance(48 * 3600)
    assert client.world.uploads.find(key, client.world.clock()) is None
    gone = await client.submit(content, **{"X-DashScope-OssResourceResolve": "enable"})
    assert (gone.status_code, gone.json()["message"]) == (400, "oss download error.")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"OSSAccessKeyId": "x"}, 403, "InvalidAccessKeyId"),
        ({"Signature": "x"}, 403, "SignatureDoesNotMatch"),
        ({"policy": base64.b64encode(json.dumps({}).encode()).decode()}, 403, "SignatureDoesNotMatch"),
        ({"key": "elsewhere/clip.mp4"}, 403, "AccessDenied"),
    ],
    ids=str,
)
async def test_an_upload_keeps_to_its_policy(change: dict[str, str], status: int, code: str) -> None:
    """Another key, signature, policy or folder is refused in XML."""
    client = Client()
    data = await policy(client)
    response = await send(client, data, form(data) | change)
    assert response.status_code == status
    assert f"<Code>{code}</Code>" in response.text


async def test_a_credential_lasts_300_seconds_and_a_name_once() -> None:
    """The same key twice is 409; a stale policy is 403 in the documented words."""
    client = Client()
    data = await policy(client)
    assert (await send(client, data, form(data))).status_code == 200
    assert (await send(client, data, form(data))).status_code == 409
    client.advance(301)
    response = await send(client, data, form(data, "other.mp4"))
    assert response.status_code == 403
    assert "Invalid according to Policy: Policy expired." in response.text


async def test_an_upload_without_a_file_or_form_is_refused() -> None:
    """Anything but a form with a file is the client's mistake."""
    client = Client()
    data = await policy(client)
    host = data["upload_host"]
    missing = await client.http.post(host, data=form(data), files={"other": b"x"})
    no_form = await client.http.post(host, content=b"x")
    broken = await client.http.post(host, content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert [response.status_code for response in (missing, no_form, broken)] == [400, 412, 400]


async def test_credentials_are_for_this_model_and_a_hundred_a_second() -> None:
    """Another action or model is refused; the 101st credential of a second is 429."""
    client = Client()
    assert (await client.get("uploads", action="other", model=MODEL)).status_code == 400
    assert (await client.get("uploads", action="getPolicy", model="other")).status_code == 404
    answers = await asyncio.gather(
        *(client.get("uploads", action="getPolicy", model=MODEL) for _ in range(99))
    )
    assert [answer.status_code for answer in answers] == [200] * 98 + [429]
