"""What a cell may hold, judged a column at a time.

The rules are those of the published reference:
https://www.alibabacloud.com/help/en/model-studio/wan-video-editing-api-reference
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from wanbatch.manifest.columns import IMAGES, LISTED_IMAGES
from wanbatch.manifest.media import check_images, check_video
from wanbatch.manifest.sheet import Sheet
from wanbatch.manifest.values import (
    check_boolean,
    check_choice,
    check_duration,
    check_id,
    check_instruction,
    check_length,
    check_no_nul,
    check_seed,
    check_service,
)
from wanbatch.models import NEGATIVE_PROMPT_LIMIT, PROMPT_LIMIT, AudioSetting, Ratio, Resolution

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from wanbatch.manifest.cells import Cells
    from wanbatch.manifest.findings import Findings


@dataclass(frozen=True, slots=True)
class Checked:
    """Rows whose cells are in the one form their rule leaves (720P, true, 5), and which rows are good.

    Every column is there but the images and tags that the manifest does not have, and a missing `video`.
    """

    rows: Sequence[int]
    columns: Mapping[str, pa.StringArray]
    good: pa.BooleanArray

    def image_columns(self) -> list[str]:
        """Name the columns of reference images that are there, in their order."""
        return [name for name in (*IMAGES, *LISTED_IMAGES) if name in self.columns]

    def between(self, start: int, stop: int) -> Checked:
        """Cut out some rows, without copying them."""
        columns = {name: cells[start:stop] for name, cells in self.columns.items()}
        return Checked(self.rows[start:stop], columns, self.good[start:stop])

    def where(self, mask: pa.BooleanArray) -> Checked:
        """Keep the rows under the mask."""
        whole = mask.true_count == len(self.rows)
        return self if whole else self.take(pc.indices_nonzero(mask).to_pylist())

    def take(self, places: Sequence[int]) -> Checked:
        """Pick some rows."""
        indices = pa.array(places, pa.int64())
        columns = {name: cells.take(indices) for name, cells in self.columns.items()}
        return Checked([self.rows[place] for place in places], columns, self.good.take(indices))


def inspect(cells: Cells, folder: Path, findings: Findings) -> Checked:
    """Judge every cell; local files are looked for from `folder`."""
    sheet = Sheet(cells, findings)
    check_no_nul(sheet)
    check_video(sheet, folder)
    check_images(sheet, folder)
    check_length(sheet, "prompt", PROMPT_LIMIT)
    check_length(sheet, "negative_prompt", NEGATIVE_PROMPT_LIMIT)
    check_instruction(sheet)
    check_choice(sheet, "resolution", tuple(Resolution), pc.utf8_upper, default=Resolution.P1080)
    check_choice(sheet, "ratio", tuple(Ratio), pc.utf8_lower, default="")
    check_choice(sheet, "audio_setting", tuple(AudioSetting), pc.utf8_lower, default=AudioSetting.AUTO)
    check_boolean(sheet, "prompt_extend", default="true")
    check_boolean(sheet, "watermark", default="false")
    check_duration(sheet)
    check_seed(sheet)
    check_id(sheet)
    check_service(sheet)
    for name in ("prompt", "negative_prompt", "seed", "id", "service"):
        sheet.set_default(name, "")
    return Checked(cells.rows, sheet.columns, sheet.good)
