"""Media on their way to the service: signed, staged or lent, and never known by their signatures."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bucketstore import SECRET, Fault, Store, served_store, store
from tests.conftest import Account, emulated, environment, options, point_to, write_manifest
from tests.test_probe import clip
from tests.test_walk import attempts, books_agree, edit, files
from wanbatch.buckets import presigned
from wanbatch.errors import ExitCode, JournalError, StorageError, UsageError
from wanbatch.identity import item_key, media_identity, without_signature
from wanbatch.journal import Attempt, Journal
from wanbatch.manifest import check_manifest
from wanbatch.media import prepare_stage
from wanbatch.models import EditRequest

__all__ = ["served_store", "store"]

pytestmark = [pytest.mark.timeout(90), pytest.mark.xdist_group("buckets")]

SIGNATURES = (b"X-Amz-", b"Signature=", SECRET.encode(), b"AKIAEXAMPLE")


def urls_of(account: Account) -> list[str]:
    """Give the addresses of the inputs of every task, as the service got them."""
    return [
        url for task in account.get("tasks")["tasks"] for url in (task["video"], *task["reference_images"])
    ]


# ---------------------------------------------------------------------------------------------- identity


def test_signing_twice_gives_the_same_item(store: Store) -> None:
    """A URL signed anew is the same medium and the same key; so is its bucket URL, each time it is signed."""
    store.put("in-bucket", "v.mp4", b"frames")
    signed = {presigned("s3://in-bucket/v.mp4", seconds) for seconds in (60, 120)}
    assert len(signed) == 2
    assert len({item_key(EditRequest(video=url), None) for url in signed}) == 1
    assert media_identity("s3://in-bucket/v.mp4") == "s3://in-bucket/v.mp4"


@pytest.mark.parametrize("tail", ["#1.mp4", "#2.mp4", "?1.mp4", "@2x.mp4", "/x?y#z@w.mp4"])
def test_a_bucket_key_is_kept_to_the_letter(tail: str) -> None:
    """In a bucket's key `#`, `?` and `@` are letters: objects that differ in them are other media."""
    assert without_signature(f"s3://bucket/take{tail}") == f"s3://bucket/take{tail}"


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:SECRET@bucket/v.mp4",
        "s3://AKIA:SEC/RET@bucket/SECRET.mp4",
        "oss://bucket/v.mp4?Expires=1&OSSAccessKeyId=SECRET&Signature=SECRET",
    ],
)
def test_credentials_in_a_bucket_url_are_not_kept(url: str) -> None:
    """Whoever pastes credentials into a bucket's URL does not find them in the books."""
    assert "SECRET" not in without_signature(url)
    assert "AKIA" not in without_signature(url)


# ------------------------------------------------------------------------------------------- bucket sources


async def test_a_bucket_to_bucket_run(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service fetches clips from a bucket by signed URLs, videos go into another, and no signature is kept."""
    store.put("in-bucket", "clips/street#1.mp4", clip())
    (tmp_path / "m.csv").write_text(
        "id,video,prompt,resolution,tag_team\nstreet,s3://in-bucket/clips/street#1.mp4,sepia,720P,red\n"
    )
    with emulated(render=True, speed=300) as account:
        point_to(account, monkeypatch)
        asked = options(
            tmp_path,
            tmp_path / "m.csv",
            probe=True,
            videos="s3://out/finished",
            name="{tag_team}/{id}-{resolution}.mp4",
        )
        summary = await edit(asked)
        assert summary.exit_code is ExitCode.OK
        (row,) = attempts(tmp_path)
        assert row["cost"] == account.billed()
        assert row["output"] == "s3://out/finished/red/street-720p.mp4"
        assert row["video"] == "s3://in-bucket/clips/street#1.mp4"
        made = store.get("out", "finished/red/street-720p.mp4")
        assert (hashlib.sha256(made).hexdigest(), len(made)) == (row["output_sha256"], row["output_bytes"])
        told = store.head("out", "finished/red/street-720p.mp4")
        assert told["ContentType"] == "video/mp4"
        assert told["Metadata"]["wanbatch-key"] == row["key"]
        assert told["Metadata"]["wanbatch-task-id"] == row["task_id"]
        assert "X-Amz-Expires=93600" in urls_of(account)[0]
        assert not [secret for secret in SIGNATURES if secret in files(tmp_path)]
        again = await edit(asked)
        assert (again.exit_code, again.counts) == (ExitCode.OK, {"done_before": 1})
        assert store.keys("out") == ["finished/red/street-720p.mp4"]


@pytest.mark.usefixtures("store")
async def test_an_object_that_is_missing_costs_nothing(tmp_path: Path, account: Account) -> None:
    """A row whose object is not there is refused unpaid, in one line."""
    (tmp_path / "m.csv").write_text("video,prompt\ns3://in-bucket/none.mp4,clay\n")
    summary = await edit(options(tmp_path, tmp_path / "m.csv", probe=True))
    assert summary.exit_code is ExitCode.SOME_FAILED
    (row,) = attempts(tmp_path)
    assert (row["status"], row["code"], row["cost"]) == ("refused", "ProbeFailed", 0)
    assert "is not there" in row["message"]
    assert account.get("tasks")["tasks"] == []


async def test_missing_credentials_are_told_before_anything_is_sent(
    tmp_path: Path, account: Account, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without credentials nothing can be signed, and the row says so."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    (tmp_path / "m.csv").write_text("video,prompt\ns3://in-bucket/v.mp4,clay\n")
    await edit(options(tmp_path, tmp_path / "m.csv"))
    (row,) = attempts(tmp_path)
    assert "can't be signed (NoCredentialsError)" in row["message"]
    assert account.get("tasks")["tasks"] == []
    assert store.requests("GET", "v.mp4") == 0


# ------------------------------------------------------------------------------------------------- staging


async def test_local_files_are_staged_once(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one file upload it once, under its own digest; the service really fetches it; the next run finds it."""
    (tmp_path / "a.mp4").write_bytes(clip())
    (tmp_path / "copy.mp4").write_bytes(clip())
    (tmp_path / "m.csv").write_text("video,prompt\na.mp4,sepia\na.mp4,clay\ncopy.mp4,neon\n")
    digest = hashlib.sha256(clip()).hexdigest()
    with emulated(render=True, speed=300) as account:
        point_to(account, monkeypatch)
        asked = options(tmp_path, tmp_path / "m.csv", stage="s3://stage/inputs/")
        assert (await edit(asked)).exit_code is ExitCode.OK
        books_agree(tmp_path, account)
        assert store.keys("stage") == [f"inputs/{digest}.mp4"]
        assert store.requests("PUT", f"{digest}.mp4") == 1
        assert store.head("stage", f"inputs/{digest}.mp4")["ContentType"] == "video/mp4"
        assert all(url.startswith(f"{store.endpoint}/stage/inputs/{digest}.mp4?") for url in urls_of(account))
        (tmp_path / "m.csv").write_text("video,prompt\na.mp4,glass\n")
        assert (await edit(asked)).exit_code is ExitCode.OK
        assert store.requests("PUT", f"{digest}.mp4") == 1
        assert not [secret for secret in SIGNATURES if secret in files(tmp_path)]


async def test_a_stage_that_refuses_stops_the_run_unpaid(
    tmp_path: Path, account: Account, store: Store
) -> None:
    """When a file can't be staged nothing is submitted, the money is free again, and the next run goes on."""
    (tmp_path / "a.mp4").write_bytes(clip())
    (tmp_path / "m.csv").write_text("video,prompt\na.mp4,sepia\n")
    asked = options(tmp_path, tmp_path / "m.csv", stage="s3://stage", budget="5")
    store.faults.append(
        Fault("status", "PUT", "/stage/" + media_identity(str(tmp_path / "a.mp4"))[7:], 99, 403)
    )
    summary = await edit(asked)
    assert summary.exit_code is ExitCode.INCOMPLETE
    assert "can't be written" in str(summary.reason)
    assert account.get("tasks")["tasks"] == []
    store.faults.clear()
    assert (await edit(asked)).exit_code is ExitCode.OK
    assert len(account.bill()) == 1


async def test_a_changed_file_is_another_item(tmp_path: Path, account: Account, store: Store) -> None:
    """A file that changes between two runs is edited anew, and staged under its new digest."""
    (tmp_path / "m.csv").write_text("video,prompt\na.mp4,sepia\n")
    asked = options(tmp_path, tmp_path / "m.csv", stage="s3://stage")
    for frames in (30, 40):
        (tmp_path / "a.mp4").write_bytes(clip(frames=frames))
        await edit(asked)
    assert len(store.keys("stage")) == len(account.bill()) == 2


def test_a_stage_is_checked_before_anything_is_paid(store: Store) -> None:
    """A stage must be a bucket that can be written and signed for; nothing is left in it."""
    prepare_stage("s3://stage/inputs")
    assert store.keys("stage") == []
    with pytest.raises(StorageError, match="no such bucket"):
        prepare_stage("s3://nowhere")
    for wrong in ("memory://stage", "folder", "https://host/x"):
        with pytest.raises(UsageError, match="is no bucket"):
            prepare_stage(wrong)


@pytest.mark.parametrize(
    ("row", "local"),
    [
        ("https://h/v.mp4,clay,", False),
        ('s3://b/v.mp4,a/b.mp4,"DATA:image/png;base64,AAAA"', False),
        ("https://h/v.mp4,clay,a.png", True),
        ("a.mp4,clay,", True),
    ],
    ids=["web", "bucket", "image", "video"],
)
def test_local_files_are_noticed(tmp_path: Path, row: str, *, local: bool) -> None:
    """A manifest has local files when a video or a reference image is neither a URL nor data."""
    (tmp_path / "m.csv").write_text(f"video,prompt,reference_image_1\n{row}\n")
    assert check_manifest(tmp_path / "m.csv").local_files is local


# ------------------------------------------------------------------------------------------ videos in buckets


def power_fails(*_: object, **__: object) -> Attempt:
    """Fail as a journal does whose disk is gone."""
    raise JournalError("the power failed")


async def test_a_crash_after_the_upload_leads_to_the_same_object(
    tmp_path: Path, account: Account, store: Store
) -> None:
    """When a run dies between the upload and the journal, the next one finds its own object and makes no second."""
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 1), videos="s3://out/clips")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "stored", power_fails)
        await edit(asked)
    assert store.keys("out") == ["clips/clip-0001.mp4"]
    assert (await edit(asked)).exit_code is ExitCode.OK
    assert store.keys("out") == ["clips/clip-0001.mp4"]
    assert store.requests("PUT", "clips/clip-0001.mp4") == 1
    (row,) = attempts(tmp_path)
    assert (row["output"], len(account.bill())) == ("s3://out/clips/clip-0001.mp4", 1)


async def test_a_bucket_in_trouble_loses_nothing(tmp_path: Path, account: Account, store: Store) -> None:
    """Errors, cut and lost answers of the bucket, and broken downloads, end in every video whole, and once."""
    store.faults += [
        Fault("status", "PUT", "clip-0001", times=2, status=503),
        Fault("lost", "PUT", "clip-0002"),
        Fault("status", "HEAD", "clip-0003"),
        Fault("cut", "PUT", "clip-0004"),
    ]
    account.faults({"kind": "result-break", "p": 0.5}, {"kind": "result-ignore-range", "p": 0.3})
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 6), videos="s3://out")
    assert (await edit(asked)).exit_code is ExitCode.OK
    rows = attempts(tmp_path)
    assert sorted(store.keys("out")) == [f"clip-{number:04}.mp4" for number in range(1, 7)]
    for row in rows:
        made = store.get("out", row["output"].removeprefix("s3://out/"))
        assert hashlib.sha256(made).hexdigest() == row["output_sha256"]
    assert sum(row["cost"] for row in rows) == account.billed()
    assert [fault.times for fault in store.faults] == [0, 0, 0, 0]


async def test_a_bucket_that_fails_stops_the_spending(tmp_path: Path, account: Account, store: Store) -> None:
    """When videos can't be stored nothing new is submitted, and what is paid is stored by the next run."""
    store.faults.append(Fault("status", "PUT", "clip-", times=999, status=403))
    asked = options(tmp_path, write_manifest(tmp_path / "m.csv", 30), videos="s3://out")
    stopped = await edit(asked)
    assert stopped.exit_code is ExitCode.INCOMPLETE
    assert "can't be written" in str(stopped.reason)
    paid = len(account.get("tasks")["tasks"])
    assert paid < 30
    store.faults.clear()
    assert (await edit(asked)).exit_code is ExitCode.OK
    assert len(store.keys("out")) == len(account.get("tasks")["tasks"]) == 30


async def test_a_bucket_that_is_not_there_is_found_first(
    tmp_path: Path, account: Account, store: Store
) -> None:
    """A videos bucket that does not exist ends the run before anything is paid."""
    with pytest.raises(StorageError, match="no such bucket"):
        await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 1), videos="s3://nowhere/x"))
    assert account.get("tasks")["tasks"] == []
    assert store.requests("PUT", "/nowhere") == 1


@pytest.mark.parametrize(
    ("medium", "problems"),
    [("s3://bucket/take 1 #2.mp4", 0), ("https://host/take 1.mp4", 1), ("s3://bucket/a\u2028b.mp4", 1)],
    ids=["bucket", "web", "line separator"],
)
def test_blanks_are_letters_of_a_bucket_key(tmp_path: Path, medium: str, problems: int) -> None:
    """A blank in a bucket's key needs no quoting, and would be another key with it; in a web address it does."""
    (tmp_path / "m.csv").write_text(f"video,prompt\n{medium},clay\n")
    assert check_manifest(tmp_path / "m.csv").problem_count == problems


def test_a_second_signal_does_not_wait_for_a_bucket(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Insisting ends a run at once that hangs in an upload, and the next run stores what was paid."""
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.conftest import options\n"
        "from tests.test_walk import edit\n"
        "folder = Path(sys.argv[1])\n"
        "asyncio.run(edit(options(folder, folder / 'm.csv', videos='s3://out')))\n"
    )
    with emulated(speed=600) as account:
        point_to(account, monkeypatch)
        manifest = write_manifest(tmp_path / "m.csv", 1)
        store.faults.append(Fault("hang", "PUT", "clip-0001"))
        settings = environment(account, tmp_path / "prefect") | store.environment()
        running = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], env=settings, stderr=subprocess.DEVNULL
        )
        while not store.requests("PUT", "clip-0001"):
            assert running.poll() is None
            time.sleep(0.05)
        for _ in range(2):
            running.send_signal(signal.SIGTERM)
            time.sleep(1)
        assert running.wait(10) != 0
        asked = options(tmp_path, manifest, videos="s3://out")
        assert asyncio.run(edit(asked)).exit_code is ExitCode.OK
        assert len(account.bill()) == len(store.keys("out")) == 1
