"""Objects in a real store over a real port: signed, staged, written once, and never in another's place."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import fsspec
import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.bucketstore import SECRET, Fault, Store, fresh_stores, served_store, store
from tests.googlestore import serving_google
from wanbatch import buckets
from wanbatch.buckets import facts_of, keep, presigned, read, stat
from wanbatch.errors import StorageError, UsageError

__all__ = ["served_store", "store"]

pytestmark = [pytest.mark.timeout(90), pytest.mark.xdist_group("buckets")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give a file."""
    path = tmp_path / "v.mp4"
    path.write_bytes(os.urandom(5000))
    return path


def kept(file: Path, url: str) -> bool:
    """Keep a file in a bucket."""
    return keep(file, url, facts_of(file), content_type="video/mp4", metadata={"wanbatch-key": "k1"})


@pytest.mark.parametrize("key", ["v.mp4", "a folder/take #3?.mp4", "100%25 @2x.mp4", "視頻.mp4"])
def test_a_signed_url_opens_the_object(store: Store, key: str) -> None:
    """Whatever the key holds, anybody with the URL can fetch the object, for as long as was asked."""
    store.put("in-bucket", key, b"frames")
    url = presigned(f"s3://in-bucket/{key}", 93_600)
    assert httpx.get(url).content == b"frames"
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["93600"]


def test_a_version_is_the_one_that_was_named(store: Store) -> None:
    """`?versionId=` opens that version, not the newest."""
    client = store.client
    client.create_bucket(Bucket="versions")
    client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    old = client.put_object(Bucket="versions", Key="v.mp4", Body=b"old")["VersionId"]
    client.put_object(Bucket="versions", Key="v.mp4", Body=b"newest")
    url = f"s3://versions/v.mp4?versionId={old}"
    assert httpx.get(presigned(url, 60)).content == read(url, 0, 3) == b"old"


def test_an_upload_says_what_it_is(store: Store, file: Path) -> None:
    """An object has the video's type and our metadata, and the bytes of the file."""
    assert kept(file, "s3://out/v.mp4")
    told = store.head("out", "v.mp4")
    assert (told["ContentType"], told["Metadata"]) == ("video/mp4", {"wanbatch-key": "k1"})
    assert store.get("out", "v.mp4") == file.read_bytes()


def test_what_is_there_is_not_uploaded_again(store: Store, file: Path) -> None:
    """The same file again is recognised by its checksum; another object stays, whatever its length."""
    assert kept(file, "s3://out/v.mp4")
    assert kept(file, "s3://out/v.mp4")
    assert store.requests("PUT", "/out/v.mp4") == 1
    assert store.requests("GET", "/out/v.mp4") == 0
    other = file.with_name("other.mp4")
    for content in (b"short", os.urandom(5000)):
        other.write_bytes(content)
        assert not kept(other, "s3://out/v.mp4")
    assert store.get("out", "v.mp4") == file.read_bytes()


def test_a_large_file_goes_in_parts(store: Store, tmp_path: Path) -> None:
    """A file of many parts appears whole, and its checksum of parts tells it from others without reading it back."""
    large = tmp_path / "large.mp4"
    large.write_bytes(os.urandom(1 << 20) * 33)
    assert kept(large, "s3://out/large.mp4")
    assert store.head("out", "large.mp4")["ContentLength"] == 33 << 20
    assert store.requests("GET", "/out/large.mp4") == 0
    assert store.requests("POST", "/out/large.mp4") == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", "PUT", "v.mp4", times=2, status=503),
        Fault("cut", "PUT", "v.mp4"),
        Fault("lost", "PUT", "v.mp4"),
        Fault("lost", "PUT", "v.mp4", times=2),
        Fault("status", "HEAD", "v.mp4", status=500),
    ],
    ids=["unavailable", "cut", "lost", "lost-twice", "not-seen"],
)
def test_trouble_on_the_way_is_waited_out(store: Store, file: Path, fault: Fault) -> None:
    """Errors, cut answers and lost ones, after which the object is there, end in one whole object."""
    store.faults.append(fault)
    assert kept(file, "s3://out/v.mp4")
    assert store.get("out", "v.mp4") == file.read_bytes()
    assert store.keys("out") == ["v.mp4"]


def test_a_store_without_conditions_is_written_all_the_same(store: Store, file: Path) -> None:
    """Where `If-None-Match` is not implemented the object is written without it."""
    store.faults.append(Fault("status", "PUT", "v.mp4", times=99, status=501, only_if_header="If-None-Match"))
    assert kept(file, "s3://out/v.mp4")
    assert store.get("out", "v.mp4") == file.read_bytes()


def test_an_object_that_came_in_between_stays(store: Store, file: Path) -> None:
    """When somebody else's object appears between our look and our upload, the store itself refuses ours."""
    store.put("out", "v.mp4", b"theirs")
    store.faults.append(Fault("status", "HEAD", "v.mp4", status=404))
    assert not kept(file, "s3://out/v.mp4")
    assert store.get("out", "v.mp4") == b"theirs"


def test_a_checksum_that_proves_nothing_is_not_believed(store: Store, file: Path) -> None:
    """An object uploaded in other parts has another ETag: it is read, and found to be the same."""
    client = store.client
    upload = client.create_multipart_upload(Bucket="out", Key="v.mp4")["UploadId"]
    part = client.upload_part(
        Bucket="out", Key="v.mp4", UploadId=upload, PartNumber=1, Body=file.read_bytes()
    )
    client.complete_multipart_upload(
        Bucket="out",
        Key="v.mp4",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    store.seen.clear()
    assert kept(file, "s3://out/v.mp4")
    assert store.requests("PUT", "/out/v.mp4") == 0


def test_what_can_not_be_done_is_one_line(store: Store, file: Path, tmp_path: Path) -> None:
    """A missing bucket, a missing object and a store that can't sign are said in one line."""
    with pytest.raises(StorageError, match="no such bucket"):
        kept(file, "s3://nowhere/v.mp4")
    with pytest.raises(StorageError, match="is not there"):
        read("s3://in-bucket/none.mp4", 0, 10)
    assert stat("s3://in-bucket/none.mp4") is None
    store.faults.append(Fault("status", "HEAD", "v.mp4", times=99, status=403))
    with pytest.raises(StorageError, match="your credentials") as caught:
        kept(file, "s3://out/v.mp4")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="gives no URLs"):
        presigned("memory://bucket/v.mp4", 60)
    with pytest.raises(UsageError, match="no such store"):
        presigned("gopher://bucket/v.mp4", 60)
    assert store.requests("PUT", "/out") == 0
    assert not list(tmp_path.glob("none*"))


def test_a_chain_of_filesystems_is_one_key(store: Store, tmp_path: Path) -> None:
    """A `::` as fsspec chains with it means nothing in a manifest's URL: no local file is read through it."""
    (tmp_path / "secret").write_text("secret")
    assert stat(f"s3://in-bucket/v.mp4::file://{tmp_path}/secret") is None
    assert store.requests("HEAD", "v.mp4::file")


def test_oss_objects_are_signed_as_oss_signs_them(store: Store) -> None:
    """A URL of a user's own OSS bucket has the signature that the documentation describes."""
    url = presigned("oss://in-bucket/clips/a b.mp4", 93_600)
    parts = urlsplit(url)
    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
    text = f"GET\n\n\n{asked['Expires']}\n/in-bucket/clips/a b.mp4"
    signature = base64.b64encode(hmac.digest(SECRET.encode(), text.encode(), hashlib.sha1)).decode()
    assert asked["Signature"] == signature
    assert unquote(parts.path) == "/in-bucket/clips/a b.mp4"
    assert url.startswith(store.endpoint)


def test_oss_objects_are_kept_and_read(store: Store, file: Path) -> None:
    """Through OSS's own SDK a file is uploaded once, looked at without listing its folder, and read in pieces."""
    assert kept(file, "oss://out/folder/v.mp4")
    assert kept(file, "oss://out/folder/v.mp4")
    assert store.requests("PUT", "/out/folder/v.mp4") == 1
    assert store.requests("GET", "/out/?") == store.requests("GET", "/out?") == 0
    assert read("oss://out/folder/v.mp4", 10, 20) == file.read_bytes()[10:20]
    assert store.get("out", "folder/v.mp4") == file.read_bytes()
    buckets.remove("oss://out/folder/v.mp4")
    assert stat("oss://out/folder/v.mp4") is None


def test_oss_without_an_endpoint_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """OSS can't be found without an endpoint, and the error names the variables."""
    monkeypatch.delenv("OSS_ENDPOINT", raising=False)
    with fresh_stores(), pytest.raises(UsageError, match="OSS_ENDPOINT"):
        presigned("oss://bucket/v.mp4", 60)


def test_the_temporary_store_is_no_bucket_of_ours() -> None:
    """Only objects that the user's credentials open are signed."""
    assert buckets.is_bucket("oss://mine/v.mp4")
    assert not buckets.is_bucket("oss://dashscope-instant/x/v.mp4")
    assert not buckets.is_bucket("https://bucket.oss-cn-beijing.aliyuncs.com/v.mp4")


def test_a_store_that_fsspec_alone_knows_will_do(file: Path) -> None:
    """Anything else that fsspec opens is written and read back."""
    fsspec.filesystem("memory").store.clear()
    with fresh_stores():
        assert kept(file, "memory://videos/a/v.mp4")
        assert read("memory://videos/a/v.mp4", 0, 5000) == file.read_bytes()
        file.write_bytes(b"another")
        assert not kept(file, "memory://videos/a/v.mp4")


def test_google_objects_are_signed_as_google_signs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service account signs for as long as is asked, without a request: its public key proves it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    account = {
        "type": "service_account",
        "project_id": "p",
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "client_email": "a@p.example",
        "token_uri": "http://127.0.0.1:9/token",
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("FSSPEC_GS_TOKEN", str(tmp_path / "account.json"))
    with fresh_stores():
        parts = urlsplit(presigned("gs://bucket/a b/take #3?.mp4", 93_600))
    query, _, signature = parts.query.rpartition("&X-Goog-Signature=")
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    assert (asked["X-Goog-Expires"], unquote(parts.path)) == ("93600", "/bucket/a b/take #3?.mp4")
    canonical = f"GET\n{parts.path}\n{query}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = asked["X-Goog-Credential"].partition("/")[2]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"GOOG4-RSA-SHA256\n{asked['X-Goog-Date']}\n{scope}\n{digest}"
    key.public_key().verify(bytes.fromhex(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256())


def test_google_objects_are_kept_and_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through Google's API a file is uploaded once, with what it is, and another one is not replaced."""
    with serving_google() as (address, objects):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")
        with fresh_stores():
            assert kept(file, "gs://out/a/v.mp4")
            assert kept(file, "gs://out/a/v.mp4")
            told, content = objects["a/v.mp4"]
            assert content == read("gs://out/a/v.mp4", 0, 5000) == file.read_bytes()
            assert (told["contentType"], told["metadata"]) == ("video/mp4", {"wanbatch-key": "k1"})
            file.write_bytes(os.urandom(5000))
            assert not kept(file, "gs://out/a/v.mp4")
            assert stat("gs://out/none.mp4") is None
