"""Looks at every input of a manifest itself, before any money."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wanbatch.errors import ProbeError, Problem
from wanbatch.identity import TEMPORARY_STORE, without_signature
from wanbatch.manifest import read_manifest
from wanbatch.probe import Prober, problems

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    from wanbatch.models import Item

_ITEMS_AT_ONCE = 32


def probe_manifest(path: Path) -> list[Problem]:
    """Give every problem of every video and image of a checked manifest, in row order."""
    return asyncio.run(_probe_all(path))


async def _probe_all(path: Path) -> list[Problem]:
    prober, found = Prober(), list[Problem]()
    try:
        places = asyncio.Semaphore(_ITEMS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_probe_item(prober, item, places)) for item in read_manifest(path)]
        for task in tasks:
            found += task.result()
    finally:
        await prober.aclose()
    return found


async def _probe_item(prober: Prober, item: Item, places: asyncio.Semaphore) -> list[Problem]:
    async with places:
        found = await _probe(prober, item.row, item.request.video, "video", "video")
        for number, image in enumerate(item.request.reference_images, 1):
            found += await _probe(prober, item.row, image, "image", f"reference_image_{number}")
    return found


async def _probe(
    prober: Prober, row: int, medium: str, kind: Literal["video", "image"], column: str
) -> list[Problem]:
    if medium.startswith(TEMPORARY_STORE):
        return []  # only the service can look there
    try:
        return [
            Problem(row, column, problem.value, problem.rule, problem.mend)
            for problem in problems(await prober.probe(medium, kind), column)
        ]
    except ProbeError as error:
        shown = without_signature(medium)
        return [Problem(row, column, shown, str(error), "give an input that can be fetched and read")]
