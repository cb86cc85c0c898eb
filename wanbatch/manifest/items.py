"""Checked rows as items."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

import pyarrow as pa

from wanbatch.errors import ManifestError, Severity, UsageError
from wanbatch.identity import is_url, item_key
from wanbatch.manifest.cells import Cells
from wanbatch.manifest.columns import TAG_PREFIX
from wanbatch.manifest.findings import Findings
from wanbatch.manifest.rules import inspect
from wanbatch.manifest.sources import read_cells
from wanbatch.models import AudioSetting, EditRequest, Item, Ratio, Resolution

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from wanbatch.manifest.rules import Checked

_RESOLUTIONS = {"": Resolution.P1080, **{each.value: each for each in Resolution}}
_RATIOS = {"": None, **{each.value: each for each in Ratio}}
_AUDIO_SETTINGS = {"": AudioSetting.AUTO, **{each.value: each for each in AudioSetting}}


def read_manifest(path: Path, *, first_row: int = 1, last_row: int | None = None) -> Iterator[Item]:
    """Stream the items of a checked manifest, from one data row to another, both included.

    Local media become paths that hold from anywhere. Raises `ManifestError` at the batch with a bad row,
    when the file can't be read, and when a local medium can't.
    """
    findings = Findings()
    for cells in read_cells(path, findings):
        part = _between(cells, first_row, last_row)
        if part.rows:
            checked = inspect(part, path.parent, findings)
            _refuse_errors(path, findings)
            yield from _items(checked, path)
        if last_row is not None and cells.rows and cells.rows[-1] >= last_row:
            return
    _refuse_errors(path, findings)


def requests(checked: Checked, folder: Path | None = None) -> Iterator[EditRequest]:
    """Make the requests of rows that are all good; local media count from `folder`, when one is given."""
    columns = checked.columns
    empty = [""] * len(checked.rows)

    def texts(name: str) -> Sequence[str]:
        cells: Sequence[str] = columns[name].to_pylist() if name in columns else empty
        return cells

    images = [texts(name) for name in checked.image_columns()]
    rows = zip(
        texts("video"),
        zip(*images, strict=True) if images else [()] * len(empty),
        *map(texts, ("prompt", "negative_prompt", "resolution", "ratio", "duration", "audio_setting")),
        *map(texts, ("prompt_extend", "watermark", "seed")),
        strict=True,
    )
    for video, media, prompt, negative, resolution, ratio, duration, audio, extend, watermark, seed in rows:
        yield EditRequest(
            video=_placed(video, folder),
            prompt=prompt or None,
            negative_prompt=negative or None,
            reference_images=tuple(_placed(image, folder) for image in media if image),
            resolution=_RESOLUTIONS[resolution],
            ratio=_RATIOS[ratio],
            duration=int(duration or 0),
            audio_setting=_AUDIO_SETTINGS[audio],
            prompt_extend=extend != "false",
            watermark=watermark == "true",
            seed=int(seed) if seed else None,
        )


def _between(cells: Cells, first_row: int, last_row: int | None) -> Cells:
    start = bisect_left(cells.rows, first_row)
    stop = len(cells.rows) if last_row is None else bisect_right(cells.rows, last_row)
    if start == 0 and stop == len(cells.rows):
        return cells
    stop = max(start, stop)
    columns = {name: column[start:stop] for name, column in cells.columns.items()}
    return Cells(cells.rows[start:stop], columns)


def _refuse_errors(path: Path, findings: Findings) -> None:
    problems = findings.in_order(Severity.ERROR)
    if problems:
        raise ManifestError(f"{path}: {problems[0]}", problems)


def _placed(medium: str, folder: Path | None) -> str:
    return medium if folder is None or is_url(medium) else str(folder / medium)


def _items(checked: Checked, path: Path) -> Iterator[Item]:
    columns = checked.columns
    empty = pa.repeat(pa.scalar(""), len(checked.rows))
    tags = {name.removeprefix(TAG_PREFIX): columns[name] for name in columns if name.startswith(TAG_PREFIX)}
    rows = zip(
        checked.rows,
        requests(checked, path.parent.absolute()),
        columns.get("id", empty).to_pylist(),
        columns.get("service", empty).to_pylist(),
        zip(*(cells.to_pylist() for cells in tags.values()), strict=True) if tags else [()] * len(empty),
        strict=True,
    )
    for row, request, item_id, service, values in rows:
        yield Item(
            key=_key(request, item_id or None, path, row),
            row=row,
            request=request,
            id=item_id or None,
            service=service or None,
            tags={name: value for name, value in zip(tags, values, strict=True) if value},
        )


def _key(request: EditRequest, item_id: str | None, path: Path, row: int) -> str:
    try:
        return item_key(request, item_id)
    except UsageError as error:
        raise ManifestError(f"{path}: row {row}: {error}") from None
