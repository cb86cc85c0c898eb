"""The rules of texts, choices, switches and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from wanbatch.errors import Severity
from wanbatch.manifest.columns import ID_LIMIT, IMAGES, LISTED_IMAGES, nearest
from wanbatch.manifest.media import BLANK, HOST
from wanbatch.models import DURATION_RANGE, SEED_LIMIT
from wanbatch.settings import SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wanbatch.manifest.sheet import Sheet

TRUE = ("true", "yes", "1")
FALSE = ("false", "no", "0")
_DURATIONS = ("0", *map(str, range(DURATION_RANGE[0], DURATION_RANGE[1] + 1)))
_SERVICE_URL = rf"(?i)^https?://{HOST}(/[^?#]*)?$"
_UNNAMABLE = r"[\p{Cc}\p{Zl}\p{Zp}]"
_PLAIN_DURATION = "^(|[02-9]|10)$"
_PLAIN_SEED = "^(|0|[1-9][0-9]{0,8})$"
_WHOLE_NUMBER = r"^[0-9]+(\.0*)?$"


def check_no_nul(sheet: Sheet) -> None:
    """Report NULs: no manifest means to have them, and they mark what was not UTF-8."""
    for name in sheet.columns:
        if _may_hold_nul(sheet.columns[name]):
            nul = pc.match_substring(sheet.columns[name], "\0")
            sheet.flag(name, nul, "is not UTF-8, or holds a NUL", "save the file as UTF-8")


def check_length(sheet: Sheet, name: str, limit: int) -> None:
    """Warn of texts that the service will cut off."""
    if not sheet.filled(name):
        return
    length = pc.utf8_length(sheet.columns[name])
    sheet.flag(
        name,
        pc.greater(length, limit),
        f"is longer than {limit:,} characters",
        "shorten it: the service cuts the rest off",
        severity=Severity.WARNING,
        value="",
    )


def check_instruction(sheet: Sheet) -> None:
    """Warn of rows that give the model nothing to go by; the service does take them."""
    silent = sheet.good
    for name in ("prompt", *IMAGES, *LISTED_IMAGES):
        if name in sheet.columns:
            silent = pc.and_(silent, pc.equal(sheet.columns[name], ""))
    sheet.flag(
        "prompt",
        silent,
        "there is neither a prompt nor a reference image",
        "say what to change",
        severity=Severity.WARNING,
        value="",
    )


def check_choice(
    sheet: Sheet, name: str, choices: tuple[str, ...], fold: Callable[[pa.Array], pa.Array], *, default: str
) -> None:
    """Check a cell that names one of a few values, in any case, and put it in the one the service knows."""
    if name in sheet.columns and not sheet.among(name, ("", *choices)):
        cells = fold(pc.utf8_trim_whitespace(sheet.columns[name]))
        wrong = pc.invert(pc.is_in(cells, pa.array(("", *choices), pa.string())))
        sheet.flag(name, wrong, f"is not one of {', '.join(choices)}", lambda value: _instead(value, choices))
        sheet.columns[name] = cells
    sheet.set_default(name, default)


def check_boolean(sheet: Sheet, name: str, *, default: str) -> None:
    """Check a switch, and write it as true or false."""
    if name in sheet.columns and not sheet.among(name, ("", "true", "false")):
        _read_boolean(sheet, name)
    sheet.set_default(name, default)


def _read_boolean(sheet: Sheet, name: str) -> None:
    cells = pc.utf8_lower(pc.utf8_trim_whitespace(sheet.columns[name]))
    yes = pc.is_in(cells, pa.array(TRUE))
    no = pc.is_in(cells, pa.array(FALSE))
    wrong = pc.and_not(pc.and_not(pc.not_equal(cells, ""), yes), no)
    sheet.flag(name, wrong, "is neither true nor false", "write true, false, yes, no, 1 or 0")
    sheet.columns[name] = pc.if_else(yes, "true", pc.if_else(no, "false", ""))


def check_duration(sheet: Sheet) -> None:
    """Check the seconds the output is cut to."""
    low, high = DURATION_RANGE
    _check_number(
        sheet,
        "duration",
        _PLAIN_DURATION,
        lambda digits: pc.is_in(digits, pa.array(_DURATIONS)),
        f"must be 0 (keep the length) or {low} to {high} whole seconds",
    )
    sheet.set_default("duration", "0")


def check_seed(sheet: Sheet) -> None:
    """Check the seed of the random numbers."""
    _check_number(sheet, "seed", _PLAIN_SEED, _is_seed, f"must be a whole number from 0 to {SEED_LIMIT}")


def _check_number(
    sheet: Sheet, name: str, plain: str, allowed: Callable[[pa.Array], pa.Array], rule: str
) -> None:
    if name not in sheet.columns or sheet.plain(name, plain):
        return
    cells = pc.utf8_trim_whitespace(sheet.columns[name])
    whole = pc.match_substring_regex(cells, _WHOLE_NUMBER)
    digits = pc.if_else(whole, _digits(cells), "")
    wrong = pc.and_not(pc.not_equal(cells, ""), pc.and_(whole, allowed(digits)))
    sheet.flag(name, wrong, rule, "correct it, or leave the cell empty")
    sheet.columns[name] = digits


def check_id(sheet: Sheet) -> None:
    """Check the row's own name, which also names its files."""
    if not sheet.filled("id"):
        return
    cells = sheet.columns["id"]
    unnamable = pc.match_substring_regex(cells, _UNNAMABLE)
    sheet.flag("id", unnamable, "has control characters or line breaks", "use plain text")
    long = pc.greater(pc.utf8_length(cells), ID_LIMIT)
    sheet.flag("id", long, f"is longer than {ID_LIMIT} characters", "shorten it")


def check_service(sheet: Sheet) -> None:
    """Check where the row is to be edited: a name we know, or a URL; `ACCOUNT@` may stand before it."""
    if not sheet.filled("service"):
        return
    cells = pc.replace_substring_regex(sheet.columns["service"], r"^[\w-]+@", "")
    known = pc.is_in(cells, pa.array(("", *SERVICES)))
    url = pc.and_not(pc.match_substring_regex(cells, _SERVICE_URL), pc.match_substring_regex(cells, BLANK))
    sheet.flag(
        "service",
        pc.invert(pc.or_(known, url)),
        f"is not {', '.join(SERVICES)} or a URL",
        lambda value: _instead(value, SERVICES),
    )


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
