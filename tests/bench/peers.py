"""The peers, each in a process of its own: what people run who have no wanbatch.

`dashscope` is the vendor's SDK in a pool of five threads, each in `VideoSynthesis.call`; its waits are scaled by
replacing `time.sleep` in this process, nothing else of it is touched. `loop` is a plain asyncio loop over httpx, five
edits at once, a look every 15 s. Both fetch what they paid for; an edit that raises is reported as failed.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.machine import Ran, run
from tests.conftest import KEY
from wanbatch.settings import ADDRESS_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from tests.bench.account import Served

SDK, LOOP = "dashscope", "loop"
_AT_ONCE = 5
_MODEL = "wan2.7-videoedit"
_LOOK_S = 15.0


def run_peer(name: str, account: Served, manifest: Path, *, speed: float | None = None) -> Ran:
    """Let a peer edit a manifest; it tells the prompts of what it has in the end."""
    folder = manifest.parent / f"videos-{name}"
    folder.mkdir(exist_ok=True)
    pace = str(speed or account.speed)
    return run("peers", name, str(manifest), str(folder), pace, environment=account.environment)


def _sdk(rows: list[dict[str, str]], folder: Path, speed: float) -> list[str]:
    import requests  # noqa: PLC0415 - each peer imports its own
    from dashscope.aigc.video_synthesis import VideoSynthesis  # noqa: PLC0415

    sleep = time.sleep

    def sleep_fast(seconds: float, /) -> None:
        sleep(seconds / speed)

    setattr(time, "sleep", sleep_fast)  # noqa: B010 - a builtin, to be replaced

    def edit(row: dict[str, str]) -> str | None:
        try:
            media = [{"type": "video", "url": row["video"]}]
            done = VideoSynthesis.call(
                _MODEL, prompt=row["prompt"], media=media, resolution=row["resolution"], api_key=KEY
            )
            if done.status_code != 200 or done.output.task_status != "SUCCEEDED":
                return None
            video = requests.get(done.output.video_url, timeout=60)
            video.raise_for_status()
        except Exception:  # noqa: BLE001 - a script that goes on with the next row
            return None
        (folder / f"{row['id']}.mp4").write_bytes(video.content)
        return row["prompt"]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [prompt for prompt in pool.map(edit, rows) if prompt]


def _loop(rows: list[dict[str, str]], folder: Path, speed: float) -> list[str]:
    import httpx  # noqa: PLC0415 - each peer imports its own

    base = os.environ[ADDRESS_VARIABLE]
    headers = {"Authorization": f"Bearer {KEY}", "X-DashScope-Async": "enable"}

    async def edit(client: httpx.AsyncClient, row: dict[str, str], places: asyncio.Semaphore) -> str | None:
        async with places:
            try:
                output = await _submitted(client, row)
                while output["task_status"] in {"PENDING", "RUNNING"}:
                    await asyncio.sleep(_LOOK_S / speed)
                    answer = await client.get(f"{base}/tasks/{output['task_id']}", headers=headers)
                    output = answer.raise_for_status().json()["output"]
                video = await client.get(output["video_url"])
                (folder / f"{row['id']}.mp4").write_bytes(video.raise_for_status().content)
            except Exception:  # noqa: BLE001 - a script that goes on with the next row
                return None
            return row["prompt"]

    async def _submitted(client: httpx.AsyncClient, row: dict[str, str]) -> dict[str, str]:
        media = [{"type": "video", "url": row["video"]}]
        body = {
            "model": _MODEL,
            "input": {"prompt": row["prompt"], "media": media},
            "parameters": {"resolution": row["resolution"]},
        }
        url = f"{base}/services/aigc/video-generation/video-synthesis"
        answer = await client.post(url, json=body, headers=headers)
        output: dict[str, str] = answer.raise_for_status().json()["output"]
        return output

    async def edit_all() -> list[str]:
        places = asyncio.Semaphore(_AT_ONCE)
        async with httpx.AsyncClient(timeout=60) as client:
            done = await asyncio.gather(*(edit(client, row, places) for row in rows))
        return [prompt for prompt in done if prompt]

    return asyncio.run(edit_all())


_PEERS: dict[str, Callable[[list[dict[str, str]], Path, float], list[str]]] = {SDK: _sdk, LOOP: _loop}


def _main(name: str, manifest: str, folder: str, speed: str) -> None:
    with Path(manifest).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    print(json.dumps(_PEERS[name](rows, Path(folder), float(speed))))  # noqa: T201 - the result


if __name__ == "__main__":
    _main(*sys.argv[1:])
