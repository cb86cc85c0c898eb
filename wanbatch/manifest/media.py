"""The rules of videos and reference images, as far as they need neither the network nor the media."""

from __future__ import annotations

import os.path
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from wanbatch.errors import Severity
from wanbatch.manifest.columns import IMAGES, LISTED_IMAGES, VIDEO
from wanbatch.models import REFERENCE_IMAGE_LIMIT

if TYPE_CHECKING:
    from pathlib import Path

    from wanbatch.manifest.sheet import Sheet

_SURE_IMAGES = REFERENCE_IMAGE_LIMIT - 1

HOST = r"([^\[\]/?#@:]+|\[[0-9a-f:.]+\])(:[0-9]{0,5})?"
_WEB = rf"(?i)^https?://([^/?#@]*@)?{HOST}([/?#]|$)"
_STORE = r"^(s3|oss|gs)://[^/?#]+/[^?#]"
_DATA = "(?i)^data:"
_IMAGE_DATA = r"^data:image/(jpeg|jpg|png|bmp|webp);base64,[A-Za-z0-9+/]+={0,2}$"
_KNOWN_SCHEME = "^((?i:https?)|s3|oss|gs)://"
BLANK = r"[\pZ\pC]"
_UNQUOTED = rf"^(?i:https?)://.*{BLANK}|[\p{{Zl}}\p{{Zp}}\pC]"
"""A blank is a letter like any other in a bucket's key."""
_PLAIN_URL = r"^https?://[A-Za-z0-9.-]+(/[!-~]*)?$"
_PLAIN_URL_OR_NOTHING = rf"{_PLAIN_URL}|^$"


def check_video(sheet: Sheet, folder: Path) -> None:
    """Check the one medium every row must have; local files are looked for from `folder`."""
    if VIDEO not in sheet.columns or sheet.plain(VIDEO, _PLAIN_URL):
        return
    cells = sheet.columns[VIDEO]
    sheet.flag(VIDEO, pc.equal(cells, ""), "is empty", "give a URL or a path")
    data = pc.match_substring_regex(cells, _DATA)
    sheet.flag(VIDEO, data, "the service takes no video as data", "give a URL or a path")
    _check_medium(sheet, VIDEO, folder, data)


def check_images(sheet: Sheet, folder: Path) -> None:
    """Check the reference images, and how many a row has."""
    count: pa.Array = None
    for name in (*IMAGES, *LISTED_IMAGES):
        if not sheet.filled(name):
            continue
        cells = sheet.columns[name]
        _check_image(sheet, name, folder)
        one = pc.not_equal(cells, "").cast(pa.int8())
        count = one if count is None else pc.add(count, one)
    if count is not None:
        _check_image_count(sheet, count)


def _check_image(sheet: Sheet, name: str, folder: Path) -> None:
    if sheet.plain(name, _PLAIN_URL_OR_NOTHING):
        return
    cells = sheet.columns[name]
    data = pc.match_substring_regex(cells, _DATA)
    bad = pc.and_not(data, pc.match_substring_regex(cells, _IMAGE_DATA))
    sheet.flag(name, bad, "is not an image as data", "write data:image/png;base64,… (jpeg, png, bmp, webp)")
    _check_medium(sheet, name, folder, data)


def _check_image_count(sheet: Sheet, count: pa.Array) -> None:
    sheet.flag(
        IMAGES[-1],
        pc.greater(count, REFERENCE_IMAGE_LIMIT),
        f"more than {REFERENCE_IMAGE_LIMIT} reference images",
        "leave some out",
        value="",
    )
    sheet.flag(
        IMAGES[-1],
        pc.equal(count, _SURE_IMAGES + 1),
        f"the API reference of April 2026 allows {_SURE_IMAGES} images, its later editions "
        f"{REFERENCE_IMAGE_LIMIT}",
        "leave one out if the service refuses it",
        severity=Severity.WARNING,
        value="",
    )


def _check_medium(sheet: Sheet, name: str, folder: Path, data: pa.Array) -> None:
    """Check a URL's form and a local file's existence; `data` marks the URLs that are neither."""
    cells = sheet.columns[name]
    url = pc.match_substring(cells, "://")
    remote = pc.and_not(url, data)
    known = pc.match_substring_regex(cells, _KNOWN_SCHEME)
    sheet.flag(
        name,
        pc.and_not(remote, known),
        "has a scheme wanbatch can't read",
        "use http://, https://, s3://, oss://, gs:// or a plain path",
    )
    blank = pc.and_(known, pc.match_substring_regex(cells, _UNQUOTED))
    sheet.flag(name, blank, "has blanks or control characters", "percent-encode them: a blank is %20")
    whole = pc.or_(pc.match_substring_regex(cells, _WEB), pc.match_substring_regex(cells, _STORE))
    broken = pc.and_not(pc.and_not(known, whole), blank)
    sheet.flag(name, broken, "is not a whole URL", "write https://host/path or s3://bucket/key")
    _check_files(sheet, name, folder, pc.and_not(pc.and_not(pc.not_equal(cells, ""), url), data))


def _check_files(sheet: Sheet, name: str, folder: Path, local: pa.Array) -> None:
    if not local.true_count:
        return
    cells = sheet.columns[name]
    paths = pc.unique(cells.filter(local)).to_pylist()
    missing = [path for path in paths if not _is_file(str(folder), path)]
    if missing:
        gone = pc.and_(local, pc.is_in(cells, pa.array(missing, pa.string())))
        sheet.flag(name, gone, "there is no such file", f"paths count from {folder}")


@lru_cache(maxsize=65_536)
def _is_file(folder: str, path: str) -> bool:
    # Path.is_file raises on a name that is too long; this one says no.
    return os.path.isfile(os.path.join(folder, path))  # noqa: PTH113, PTH118 - see above
