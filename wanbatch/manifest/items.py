"""Checked rows as items."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wanbatch.errors import ManifestError, Severity, UsageError
from wanbatch.identity import digest, is_url, media_identity
from wanbatch.manifest.cells import Cells
from wanbatch.manifest.columns import TAG_PREFIX, VIDEO
from wanbatch.manifest.findings import Findings
from wanbatch.manifest.keys import key_texts
from wanbatch.manifest.rules import inspect
from wanbatch.manifest.sources import read_cells
from wanbatch.models import AudioSetting, EditRequest, Item, Ratio, Resolution

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from wanbatch.manifest.rules import Checked

_ROWS_AT_ONCE = 1_000
"""Few, because their local files are all read before the first of them is handed out."""
_RESOLUTIONS = {each.value: each for each in Resolution}
_RATIOS = {"": None, **{each.value: each for each in Ratio}}
_AUDIO_SETTINGS = {each.value: each for each in AudioSetting}


@dataclass(frozen=True, slots=True)
class Rows:
    """Some good rows in the order of their manifest, and their keys."""

    checked: Checked
    keys: Sequence[str]
    folder: Path
    """Local media count from here; absolute."""

    def texts(self, name: str) -> list[str]:
        """Give the cells of a column that every manifest has once it is checked; '' is an empty one."""
        cells: list[str] = self.checked.columns[name].to_pylist()
        return cells

    def tags(self) -> dict[str, list[str]]:
        """Give the values of every tag; '' where a row has none."""
        names = [name for name in self.checked.columns if name.startswith(TAG_PREFIX)]
        return {name.removeprefix(TAG_PREFIX): self.texts(name) for name in names}

    def at(self, places: Sequence[int]) -> Rows:
        """Take some of the rows, by where they stand among these."""
        if len(places) == len(self.keys):
            return self
        return Rows(self.checked.take(places), [self.keys[place] for place in places], self.folder)

    def items(self) -> Iterator[Item]:
        """Make items of the rows."""
        tags = self.tags()
        rows = zip(
            self.keys,
            self.checked.rows,
            self._requests(),
            self.texts("id"),
            self.texts("service"),
            zip(*tags.values(), strict=True) if tags else [()] * len(self.keys),
            strict=True,
        )
        for key, row, request, item_id, service, values in rows:
            yield Item(
                key=key,
                row=row,
                request=request,
                id=item_id or None,
                service=service or None,
                tags={name: value for name, value in zip(tags, values, strict=True) if value},
            )

    def _requests(self) -> Iterator[EditRequest]:
        images = [self.texts(name) for name in self.checked.image_columns()]
        rows = zip(
            self.texts(VIDEO),
            zip(*images, strict=True) if images else [()] * len(self.keys),
            *map(self.texts, ("prompt", "negative_prompt", "resolution", "ratio", "duration")),
            *map(self.texts, ("audio_setting", "prompt_extend", "watermark", "seed")),
            strict=True,
        )
        for (
            video,
            media,
            prompt,
            negative,
            resolution,
            ratio,
            duration,
            audio,
            extend,
            watermark,
            seed,
        ) in rows:
            yield EditRequest(
                video=_placed(video, self.folder),
                prompt=prompt or None,
                negative_prompt=negative or None,
                reference_images=tuple(_placed(image, self.folder) for image in media if image),
                resolution=_RESOLUTIONS[resolution],
                ratio=_RATIOS[ratio],
                duration=int(duration),
                audio_setting=_AUDIO_SETTINGS[audio],
                prompt_extend=extend == "true",
                watermark=watermark == "true",
                seed=int(seed) if seed else None,
            )


def read_manifest(path: Path, *, first_row: int = 1, last_row: int | None = None) -> Iterator[Item]:
    """Stream the items of a checked manifest, from one data row to another, both included.

    Local media become paths that hold from anywhere. Raises `ManifestError` at the batch with a bad row,
    when the file can't be read, and when a local medium can't.
    """
    for rows in read_rows(path, first_row=first_row, last_row=last_row):
        yield from rows.items()


def read_rows(path: Path, *, first_row: int = 1, last_row: int | None = None) -> Iterator[Rows]:
    """Stream the rows of a checked manifest as `read_manifest` does, for those who need few or no items of them."""
    findings = Findings()
    for cells in read_cells(path, findings):
        part = _between(cells, first_row, last_row)
        if part.rows:
            checked = inspect(part, path.parent, findings)
            _refuse_errors(path, findings)
            yield from keyed(checked, path)
        if last_row is not None and cells.rows and cells.rows[-1] >= last_row:
            return
    _refuse_errors(path, findings)


def keyed(checked: Checked, path: Path) -> Iterator[Rows]:
    """Work out the keys of good rows; raises `ManifestError` when a local medium can't be read."""
    folder = path.parent.absolute()
    for start in range(0, len(checked.rows), _ROWS_AT_ONCE):
        part = checked.between(start, start + _ROWS_AT_ONCE)
        try:
            texts = key_texts(part, lambda medium: media_identity(_placed(medium, folder)))
        except UsageError as error:
            raise ManifestError(f"{path}: {error}") from None
        yield Rows(part, [digest(text) for text in texts], folder)


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


def _placed(medium: str, folder: Path) -> str:
    return medium if is_url(medium) else str(folder / medium)
