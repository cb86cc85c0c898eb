"""Filesystems behind URLs, through fsspec.

Credentials and endpoints are found as each store's own tools find them (`AWS_ENDPOINT_URL` and the like), and as
fsspec's configuration says: https://filesystem-spec.readthedocs.io/en/latest/features.html#configuration .
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from wanbatch.errors import StorageError
from wanbatch.identity import without_signature

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_PACKAGES = {"s3": "wanbatch[s3]", "oss": "wanbatch[oss]", "gs": "wanbatch[gs]"}


def local_path(where: str) -> Path | None:
    """Give the path that a path or a `file://` URL means; None for any other URL."""
    if where.startswith("file://"):
        return Path(unquote(urlsplit(where).path))
    return None if "://" in where else Path(where)


def open_store(url: str) -> tuple[AbstractFileSystem, str]:
    """Give the filesystem of a URL, and the path in it; raises `StorageError` in one line, without credentials.

    Nothing is asked of the store yet. What is listed is never remembered: others write there, too.
    """
    scheme = url.partition(":")[0]
    try:
        # Slow to import with the store's package behind it, and most runs have no store at all.
        import fsspec  # noqa: PLC0415

        files, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError:
        package = _PACKAGES.get(scheme, f"the fsspec package for {scheme}://")
        raise StorageError(f"{without_signature(url)}: needs a package: pip install '{package}'") from None
    except Exception as error:  # noqa: BLE001 - every store has its own errors, and their texts may quote a secret
        raise StorageError(
            f"{without_signature(url)}: can't be opened ({type(error).__name__}); "
            "see that it is a URL like s3://bucket/folder, and that your credentials are set"
        ) from None
    return files, path
