"""What a cell may hold, judged a column at a time.

The rules are those of the published reference, as far as they need neither the network nor the media:
https://www.alibabacloud.com/help/en/model-studio/wan-video-editing-api-reference
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from wanbatch.errors import Severity
from wanbatch.manifest.columns import IMAGES, LISTED_IMAGES, VIDEO, nearest
from wanbatch.models import (
    DURATION_RANGE,
    NEGATIVE_PROMPT_LIMIT,
    PROMPT_LIMIT,
    REFERENCE_IMAGE_LIMIT,
    SEED_LIMIT,
    AudioSetting,
    Ratio,
    Resolution,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from wanbatch.manifest.findings import Findings
    from wanbatch.manifest.sources import Cells

SERVICES = ("singapore", "beijing", "emulator")
ID_LIMIT = 200
TRUE = ("true", "yes", "1")
FALSE = ("false", "no", "0")
_DURATIONS = ("0", *map(str, range(DURATION_RANGE[0], DURATION_RANGE[1] + 1)))
_SURE_IMAGES = REFERENCE_IMAGE_LIMIT - 1

_HOST = r"([^/?#@]*@)?([^\[\]/?#@:]+|\[[0-9a-f:.]+\])(:[0-9]{0,5})?"
_WEB = rf"(?i)^https?://{_HOST}([/?#]|$)"
_STORE = r"(?i)^(s3|oss|gs)://[^/?#]+/[^?#]"
_DATA = "(?i)^data:"
_IMAGE_DATA = r"^data:image/(jpeg|jpg|png|bmp|webp);base64,[A-Za-z0-9+/]+={0,2}$"
_KNOWN_SCHEME = "(?i)^(https?|s3|oss|gs)://"
_BLANK = r"[\pZ\pC]"
_UNNAMABLE = r"[\p{Cc}\p{Zl}\p{Zp}]"
_PLAIN_URL = r"^https?://[A-Za-z0-9.-]+(/[!-~]*)?$"
_PLAIN_URL_OR_NOTHING = rf"{_PLAIN_URL}|^$"
_PLAIN_DURATION = "^(|[02-9]|10)$"
_PLAIN_SEED = "^(|0|[1-9][0-9]{0,8})$"
_WHOLE_NUMBER = r"^[0-9]+(\.0*)?$"


@dataclass(frozen=True, slots=True)
class Checked:
    """Rows whose cells are in the one form their rule leaves (720P, true, 5), and which rows are good."""

    rows: Sequence[int]
    columns: Mapping[str, pa.StringArray]
    good: pa.BooleanArray

    def image_columns(self) -> list[str]:
        """Name the columns of reference images that are there, in their order."""
        return [name for name in (*IMAGES, *LISTED_IMAGES) if name in self.columns]


def inspect(cells: Cells, folder: Path, findings: Findings) -> Checked:
    """Judge every cell; local files are looked for from `folder`."""
    sheet = _Sheet(cells, findings)
    sheet.check_no_nul()
    sheet.check_video(folder)
    sheet.check_images(folder)
    sheet.check_length("prompt", PROMPT_LIMIT)
    sheet.check_length("negative_prompt", NEGATIVE_PROMPT_LIMIT)
    sheet.check_instruction()
    sheet.check_choice("resolution", tuple(Resolution), pc.utf8_upper, default=Resolution.P1080)
    sheet.check_choice("ratio", tuple(Ratio), pc.utf8_lower, default="")
    sheet.check_choice("audio_setting", tuple(AudioSetting), pc.utf8_lower, default=AudioSetting.AUTO)
    sheet.check_boolean("prompt_extend", default="true")
    sheet.check_boolean("watermark", default="false")
    sheet.check_duration()
    sheet.check_seed()
    sheet.check_id()
    sheet.check_service()
    return Checked(cells.rows, sheet.columns, sheet.good)


class _Sheet:
    """A batch under inspection: each check reports, and puts the cells into their one form."""

    def __init__(self, cells: Cells, findings: Findings) -> None:
        self.columns = dict(cells.columns)
        self.good = pa.repeat(pa.scalar(value=True), len(cells.rows))
        self._rows = cells.rows
        self._findings = findings

    def check_no_nul(self) -> None:
        for name in self.columns:
            if _may_hold_nul(self.columns[name]):
                nul = pc.match_substring(self.columns[name], "\0")
                self._flag(name, nul, "holds a NUL byte", "take it out: the file may be damaged")

    def check_video(self, folder: Path) -> None:
        if VIDEO not in self.columns or self._plain(VIDEO, _PLAIN_URL):
            return
        cells = self.columns[VIDEO]
        self._flag(VIDEO, pc.equal(cells, ""), "is empty", "give a URL or a path")
        data = pc.match_substring_regex(cells, _DATA)
        self._flag(VIDEO, data, "the service takes no video as data", "give a URL or a path")
        self._check_medium(VIDEO, folder, data)

    def check_images(self, folder: Path) -> None:
        count: pa.Array = None
        for name in (*IMAGES, *LISTED_IMAGES):
            if not self._filled(name):
                continue
            cells = self.columns[name]
            self._check_image(name, folder)
            one = pc.not_equal(cells, "").cast(pa.int8())
            count = one if count is None else pc.add(count, one)
        if count is not None:
            self._check_image_count(count)

    def _check_image(self, name: str, folder: Path) -> None:
        if self._plain(name, _PLAIN_URL_OR_NOTHING):
            return
        cells = self.columns[name]
        data = pc.match_substring_regex(cells, _DATA)
        bad = pc.and_not(data, pc.match_substring_regex(cells, _IMAGE_DATA))
        self._flag(
            name, bad, "is not an image as data", "write data:image/png;base64,… (jpeg, png, bmp, webp)"
        )
        self._check_medium(name, folder, data)

    def _check_image_count(self, count: pa.Array) -> None:
        self._flag(
            IMAGES[-1],
            pc.greater(count, REFERENCE_IMAGE_LIMIT),
            f"more than {REFERENCE_IMAGE_LIMIT} reference images",
            "leave some out",
            value="",
        )
        self._flag(
            IMAGES[-1],
            pc.equal(count, _SURE_IMAGES + 1),
            f"the API reference of April 2026 allows {_SURE_IMAGES} images, its later editions "
            f"{REFERENCE_IMAGE_LIMIT}",
            "leave one out if the service refuses it",
            severity=Severity.WARNING,
            value="",
        )

    def _check_medium(self, name: str, folder: Path, data: pa.Array) -> None:
        """Check a URL's form and a local file's existence; `data` marks the URLs that are neither."""
        cells = self.columns[name]
        url = pc.match_substring(cells, "://")
        remote = pc.and_not(url, data)
        known = pc.match_substring_regex(cells, _KNOWN_SCHEME)
        self._flag(
            name,
            pc.and_not(remote, known),
            "has a scheme wanbatch can't read",
            "use http://, https://, s3://, oss://, gs:// or a plain path",
        )
        blank = pc.and_(known, pc.match_substring_regex(cells, _BLANK))
        self._flag(name, blank, "has blanks or control characters", "percent-encode them: a blank is %20")
        whole = pc.or_(pc.match_substring_regex(cells, _WEB), pc.match_substring_regex(cells, _STORE))
        broken = pc.and_not(pc.and_not(known, whole), blank)
        self._flag(name, broken, "is not a whole URL", "write https://host/path or s3://bucket/key")
        self._check_files(name, folder, pc.and_not(pc.and_not(pc.not_equal(cells, ""), url), data))

    def _check_files(self, name: str, folder: Path, local: pa.Array) -> None:
        if not local.true_count:
            return
        cells = self.columns[name]
        paths = pc.unique(cells.filter(local)).to_pylist()
        missing = [path for path in paths if not _is_file(str(folder), path)]
        if missing:
            gone = pc.and_(local, pc.is_in(cells, pa.array(missing, pa.string())))
            self._flag(name, gone, "there is no such file", f"paths count from {folder}")

    def check_length(self, name: str, limit: int) -> None:
        if not self._filled(name):
            return
        length = pc.utf8_length(self.columns[name])
        self._flag(
            name,
            pc.greater(length, limit),
            f"is longer than {limit:,} characters",
            "shorten it: the service cuts the rest off",
            severity=Severity.WARNING,
            value="",
        )

    def check_instruction(self) -> None:
        """Warn of rows that give the model nothing to go by; the service does take them."""
        silent = self.good
        for name in ("prompt", *IMAGES, *LISTED_IMAGES):
            if name in self.columns:
                silent = pc.and_(silent, pc.equal(self.columns[name], ""))
        self._flag(
            "prompt",
            silent,
            "there is neither a prompt nor a reference image",
            "say what to change",
            severity=Severity.WARNING,
            value="",
        )

    def check_choice(
        self, name: str, choices: tuple[str, ...], fold: Callable[[pa.Array], pa.Array], *, default: str
    ) -> None:
        if name in self.columns and not self._among(name, ("", *choices)):
            cells = fold(pc.utf8_trim_whitespace(self.columns[name]))
            wrong = pc.invert(pc.is_in(cells, pa.array(("", *choices), pa.string())))
            self._flag(
                name, wrong, f"is not one of {', '.join(choices)}", lambda value: _instead(value, choices)
            )
            self.columns[name] = cells
        self._set_default(name, default)

    def check_boolean(self, name: str, *, default: str) -> None:
        if name in self.columns and not self._among(name, ("", "true", "false")):
            self._read_boolean(name)
        self._set_default(name, default)

    def _read_boolean(self, name: str) -> None:
        cells = pc.utf8_lower(pc.utf8_trim_whitespace(self.columns[name]))
        yes = pc.is_in(cells, pa.array(TRUE))
        no = pc.is_in(cells, pa.array(FALSE))
        wrong = pc.and_not(pc.and_not(pc.not_equal(cells, ""), yes), no)
        self._flag(name, wrong, "is neither true nor false", "write true, false, yes, no, 1 or 0")
        self.columns[name] = pc.if_else(yes, "true", pc.if_else(no, "false", ""))

    def check_duration(self) -> None:
        low, high = DURATION_RANGE
        self._check_number(
            "duration",
            _PLAIN_DURATION,
            lambda digits: pc.is_in(digits, pa.array(_DURATIONS)),
            f"must be 0 (keep the length) or {low} to {high} whole seconds",
        )
        self._set_default("duration", "0")

    def check_seed(self) -> None:
        self._check_number("seed", _PLAIN_SEED, _is_seed, f"must be a whole number from 0 to {SEED_LIMIT}")

    def _check_number(
        self, name: str, plain: str, allowed: Callable[[pa.Array], pa.Array], rule: str
    ) -> None:
        if name not in self.columns or self._plain(name, plain):
            return
        cells = pc.utf8_trim_whitespace(self.columns[name])
        whole = pc.match_substring_regex(cells, _WHOLE_NUMBER)
        digits = pc.if_else(whole, _digits(cells), "")
        wrong = pc.and_not(pc.not_equal(cells, ""), pc.and_(whole, allowed(digits)))
        self._flag(name, wrong, rule, "correct it, or leave the cell empty")
        self.columns[name] = digits

    def check_id(self) -> None:
        if not self._filled("id"):
            return
        cells = self.columns["id"]
        unnamable = pc.match_substring_regex(cells, _UNNAMABLE)
        self._flag("id", unnamable, "has control characters or line breaks", "use plain text")
        long = pc.greater(pc.utf8_length(cells), ID_LIMIT)
        self._flag("id", long, f"is longer than {ID_LIMIT} characters", "shorten it")

    def check_service(self) -> None:
        if not self._filled("service"):
            return
        cells = self.columns["service"]
        known = pc.is_in(cells, pa.array(("", *SERVICES)))
        url = pc.and_not(pc.match_substring_regex(cells, _WEB), pc.match_substring_regex(cells, _BLANK))
        self._flag(
            "service",
            pc.invert(pc.or_(known, url)),
            f"is not {', '.join(SERVICES)} or a URL",
            lambda value: _instead(value, SERVICES),
        )

    def _set_default(self, name: str, default: str) -> None:
        """Write the default out, so that an empty cell and a cell that says it are the same edit."""
        if default and name in self.columns:
            cells = self.columns[name]
            self.columns[name] = pc.if_else(pc.equal(cells, ""), default, cells)

    def _plain(self, name: str, pattern: str) -> bool:
        """Whether every cell has the usual form, which needs no further look; one test instead of many."""
        return bool(pc.all(pc.match_substring_regex(self.columns[name], pattern)).as_py())

    def _among(self, name: str, choices: Sequence[str]) -> bool:
        return bool(pc.all(pc.is_in(self.columns[name], pa.array(choices, pa.string()))).as_py())

    def _filled(self, name: str) -> bool:
        """Whether the column is there and has a cell that says something."""
        cells = self.columns.get(name)
        return cells is not None and bool(pc.any(pc.not_equal(cells, "")).as_py())

    def _flag(
        self,
        name: str,
        mask: pa.BooleanArray,
        rule: str,
        mend: str | Callable[[str], str],
        *,
        severity: Severity = Severity.ERROR,
        value: str | None = None,
    ) -> None:
        """Report the rows under the mask; only these become Python objects."""
        if not mask.true_count:
            return
        if severity is Severity.ERROR:
            self.good = pc.and_not(self.good, mask)
        places = pc.indices_nonzero(mask)
        kept = places[: self._findings.room(severity)].to_pylist()
        for place in kept:
            cell = self.columns[name][place].as_py() if value is None else value
            advice = mend if isinstance(mend, str) else mend(cell)
            self._findings.add(self._rows[place], name, cell, rule, advice, severity)
        self._findings.count(severity, len(places) - len(kept), self._rows[places[-1].as_py()])


def _may_hold_nul(cells: pa.StringArray) -> bool:
    """Look at the bytes of the whole column: a hundred times faster than cell by cell."""
    text = cells.buffers()[2]
    return text is not None and text.to_pybytes().find(0) >= 0


def _instead(value: str, choices: Iterable[str]) -> str:
    meant = nearest(value, choices)
    return f"did you mean {meant}?" if meant else "choose one, or leave the cell empty"


def _digits(cells: pa.Array) -> pa.Array:
    """Take leading zeros and an empty fraction away."""
    whole = pc.replace_substring_regex(cells, r"\.0*$", "")
    return pc.replace_substring_regex(whole, r"^0+([0-9])", r"\1")


def _is_seed(digits: pa.Array) -> pa.Array:
    short = pc.less_equal(pc.utf8_length(digits), len(str(SEED_LIMIT)))
    number = pc.if_else(pc.and_(short, pc.not_equal(digits, "")), digits, "0").cast(pa.int64())
    return pc.and_(short, pc.less_equal(number, SEED_LIMIT))


@lru_cache(maxsize=65_536)
def _is_file(folder: str, path: str) -> bool:
    # Path.is_file raises on a name that is too long; this one says no.
    return os.path.isfile(os.path.join(folder, path))  # noqa: PTH113, PTH118 - see above
