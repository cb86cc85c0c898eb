"""The temporary upload space: credentials, checked forms, `oss://` objects that live 48 hours.

Source: https://www.alibabacloud.com/help/en/model-studio/get-temporary-file-url
"""

import base64
import json
import secrets
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from wanbatch.emulator.clock import china_text, utc_text
from wanbatch.emulator.oss import ACCESS_KEY_ID, OssError, Signer

LIFE_MS: Final = 48 * 3600 * 1000
CREDENTIAL_S: Final = 300
MAX_FILE_MB: Final = 100


@dataclass(frozen=True, slots=True)
class _Object:
    path: Path
    expires: int


class Uploads:
    """Objects under their keys. Times are milliseconds since the epoch; safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signer = Signer()
        self._objects: dict[str, _Object] = {}
        self._lock = threading.Lock()

    def policy(self, now: int, upload_host: str) -> dict[str, Any]:
        """Give a credential for uploads into a folder of its own, good for 300 seconds."""
        folder = f"dashscope-instant/emulator/{china_text(now)[:10]}/{secrets.token_hex(16)}"
        policy = _encoded(
            {
                "expiration": utc_text(now + CREDENTIAL_S * 1000),
                "conditions": [
                    ["content-length-range", 0, MAX_FILE_MB * 1024 * 1024],
                    ["starts-with", "$key", folder],
                    {"bucket": "emulator"},
                    {"x-oss-object-acl": "private"},
                    {"x-oss-forbid-overwrite": "true"},
                ],
            }
        )
        return {
            "policy": policy,
            "signature": self._signer.sign(policy),
            "upload_dir": folder,
            "upload_host": upload_host,
            "expire_in_seconds": CREDENTIAL_S,
            "max_file_size_mb": MAX_FILE_MB,
            "capacity_limit_mb": 999999999,
            "oss_access_key_id": ACCESS_KEY_ID,
            "x_oss_object_acl": "private",
            "x_oss_forbid_overwrite": "true",
        }

    def check(self, form: Mapping[str, str], size: int, now: int) -> str:
        """Hold a form's fields against its policy; gives the object's key. Raises OssError."""
        policy, key = form.get("policy", ""), form.get("key", "")
        if form.get("OSSAccessKeyId") != ACCESS_KEY_ID:
            raise OssError(403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist.")
        if not self._signer.holds(policy, form.get("Signature", "")):
            raise OssError(
                403, "SignatureDoesNotMatch", "The request signature we calculated does not match."
            )
        terms = json.loads(base64.b64decode(policy))
        if utc_text(now) > terms["expiration"]:
            raise OssError(403, "AccessDenied", "Invalid according to Policy: Policy expired.")
        (_, _, largest), (_, _, folder), *_ = terms["conditions"]
        if not key.startswith(f"{folder}/"):
            raise OssError(403, "AccessDenied", "Invalid according to Policy: Policy Condition failed: key.")
        if size > largest:
            raise OssError(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")
        return key

    def put(self, key: str, content: BinaryIO, now: int) -> None:
        """Keep an object under a key that must be new. Raises OssError. Blocking."""
        path = self._folder / secrets.token_hex(16)
        with path.open("xb") as file:
            shutil.copyfileobj(content, file)
        with self._lock:
            self._sweep(now)
            if key in self._objects:
                path.unlink()
                raise OssError(409, "FileAlreadyExists", "The object you specified already exists.")
            self._objects[key] = _Object(path, now + LIFE_MS)

    def find(self, key: str, now: int) -> Path | None:
        """Give the file behind `oss://key`, or None when there is none (any more)."""
        with self._lock:
            self._sweep(now)
            kept = self._objects.get(key)
            return kept.path if kept else None

    def _sweep(self, now: int) -> None:
        for key, kept in list(self._objects.items()):
            if kept.expires > now:
                # Every object lives equally long, so those after the first young one are younger still.
                return
            kept.path.unlink(missing_ok=True)
            del self._objects[key]


def _encoded(policy: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(policy).encode()).decode()
