"""No key and no signature is left anywhere by runs that meet every fault, however the far ends echo them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import pyarrow.parquet as pq
import pytest

from tests.bucketstore import KEY_ID, SECRET, serving_store
from tests.collector import Collector, collecting
from tests.conftest import WANBATCH, emulated
from tests.echoing import Gateway, echoing
from tests.test_flow import runs_of, serving_prefect
from wanbatch.settings import ADDRESS_VARIABLE, KEY_VARIABLE

pytestmark = [pytest.mark.long, pytest.mark.timeout(600), pytest.mark.xdist_group("secrets")]

KEY = "sk-7f3aQ9wKeyThatNobodyMaySee4b1"
SECRETS = {
    "key": "7f3aQ9wKeyThat",
    "s3": "X5amzS1gn4tureHush",
    "s3-token": "F9secur1tyTokenHush",
    "oss": "0ssS1gn4tureHushB8",
    "oss-id": "LTAI5tHush4cc3ssK3y",
    "token": "t0kenP1ainHushQ6",
    "user": "p4sswordHushW2z",
    "bucket": SECRET,
    "bucket-id": KEY_ID,
}
"""What must not be found, not even its first half, in any form."""

BUGGY = """
import logging, os, sys
for name in ("httpx", "httpcore"):
    logging.getLogger(name).setLevel(logging.DEBUG)
from wanbatch.storage import VideoStore
fetch = VideoStore.fetch
async def buggy(self, url, name, **more):
    if "bug" in str(name):
        raise KeyError(f"{url} Authorization: Bearer {os.environ['DASHSCOPE_API_KEY']}")
    return await fetch(self, url, name, **more)
VideoStore.fetch = buggy
if os.environ.get("BUG_IN_FLOW"):
    import wanbatch.summary
    async def summarise(session):
        raise KeyError(f"Authorization: Bearer {os.environ['DASHSCOPE_API_KEY']}")
    wanbatch.summary.summarise = summarise
from wanbatch.cli import main
main()
"""
"""The command line with a fault of its own, and with two libraries that log every URL."""


def forms(secret: str) -> set[bytes]:
    """Give the bytes that betray a secret: itself, half of it, and both in base64 at any place of a text."""
    found = set()
    for part in (secret.encode(), secret.encode()[: len(secret) // 2 + 2]):
        found.add(part)
        for before in range(3):
            coded = base64.b64encode(b"\0" * before + part)
            found.add(coded[(before * 8 + 5) // 6 : len(coded) - 4])
        found.add(part.hex().encode())
    return found


def betrayed(content: bytes, secrets: dict[str, str] = SECRETS) -> list[str]:
    """Name the secrets that stand in some bytes, as they are, or behind percent signs once or twice."""
    once = unquote_to_bytes(content)
    readings = (content, once, unquote_to_bytes(once))
    return [
        name
        for name, secret in secrets.items()
        if any(form in reading for form in forms(secret) for reading in readings)
    ]


@pytest.mark.parametrize("name", SECRETS)
def test_what_is_searched_for_is_found(name: str) -> None:
    """The search below finds a secret as it is, cut, percent-encoded and in base64; and nothing where none is."""
    secret = SECRETS[name]
    every = "".join(f"%{byte:02X}" for byte in secret.encode())
    hidden = [
        f"…{secret}…",
        secret[: len(secret) // 2 + 2],
        every,
        quote(every),
        *(base64.b64encode(f"{'x' * before}{secret}tail".encode()).decode() for before in range(3)),
        json.dumps({"a": json.dumps({"b": secret})}),
    ]
    assert [betrayed(text.encode()) for text in hidden] == [[name]] * len(hidden)
    assert betrayed(b"nothing %41 here" * 9) == []


def write_manifests(folder: Path, media: str) -> None:
    """Write what the runs edit: URLs signed in every way, and prompts that bring faults about."""
    signed = {
        "s3": f"X-Amz-Signature={SECRETS['s3']}&X-Amz-Security-Token={SECRETS['s3-token']}%2Fx",
        "oss": f"Expires=4102444800&OSSAccessKeyId={SECRETS['oss-id']}&Signature={SECRETS['oss']}%2B%3D",
        "token": f"token={SECRETS['token']}",
    }
    prompts = ("calm", "echo-500", "echo-400", "echo-html", "quoted", "forbidden", "drop-me", "last")
    rows = [
        f"{prompt}-{name},{media}/{prompt}-{name}.mp4?seconds=3.1&{query},make it look {prompt}"
        for prompt in prompts
        for name, query in signed.items()
        if name == "oss" or prompt in {"calm", "echo-400"}
    ]
    userinfo = media.replace("://", f"://me:{SECRETS['user']}@")
    rows.append(f"user,{userinfo}/user.mp4?seconds=2.5,make it look owned")
    head = "id,video,prompt\n"
    (folder / "clip.mp4").write_bytes(b"nobody looks at it" * 99)
    (folder / "staged.csv").write_text(f"{head}staged,clip.mp4,look\n")
    (folder / "in.csv").write_text(head + "\n".join(rows) + "\n")
    (folder / "bug.csv").write_text(f"{head}a-bug,{media}/bug.mp4?seconds=4&{signed['oss']},a bug\n")
    probed = [f"probed-{name},{media}/probed-{name}.mp4?{query},look" for name, query in signed.items()]
    (folder / "probed.csv").write_text(head + "\n".join(probed) + "\n")
    bad = [f"bad-{name},ftp://b.example/{name}.mp4?{query},x" for name, query in signed.items()]
    (folder / "bad.csv").write_text(head.replace("prompt", "seed") + "\n".join(bad) + "\n")


class Stage:
    """A folder with runs in it, and everything that saw them."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = environment
        self._count = 0
        self.said: dict[str, str] = {}

    def do(self, name: str, *command: str, **environment: str) -> int:
        """Run a command, and keep what it says."""
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment | environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        self.said[name] = ended.stdout + "\n" + ended.stderr
        (self.folder / "out").mkdir(exist_ok=True)
        (self.folder / "out" / f"{name}.txt").write_text(self.said[name])
        return ended.returncode


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, Gateway, Collector, str]]:
    """Run everything once: faults, a bug, probes, a bad manifest, and every command that shows the books."""
    folder = tmp_path_factory.mktemp("secrets")
    with (
        collecting() as collector,
        emulated(key=KEY) as account,
        echoing(account.origin) as gateway,
        serving_prefect(folder / "server") as (api, _),
        serving_store() as store,
    ):
        store.make("edits")
        write_manifests(folder, f"{gateway.origin}/media")
        query = f"Expires=1&OSSAccessKeyId={SECRETS['oss-id']}&Signature={SECRETS['oss']}"
        quoted = f"Failed to download {gateway.origin}/media/q.mp4?{query} for Bearer {KEY}"
        account.faults(
            {"kind": "fail", "prompt": "quoted", "code": "InvalidParameter.Media", "message": quoted},
            {"kind": "accept-then-drop", "prompt": "drop-me", "count": 1},
            {"kind": "throttle-rate", "nth": 4},
            {"kind": "5xx", "on": "query", "nth": 3, "message": quoted},
            {"kind": "garbled-body", "on": "list", "nth": 2},
            {"kind": "result-break", "nth": 1},
            {"kind": "result-expired", "nth": 3},
        )
        stage = Stage(
            folder,
            os.environ
            | store.environment()
            | {
                ADDRESS_VARIABLE: gateway.url,
                KEY_VARIABLE: KEY,
                "PREFECT_HOME": str(folder / "home"),
                "PREFECT_API_URL": api,
                "PREFECT_LOGGING_LEVEL": "DEBUG",
                "PREFECT_LOGGING_EXTRA_LOGGERS": "wanbatch",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            },
        )
        _play(stage)
        yield stage, gateway, collector, api


def _play(stage: Stage) -> None:
    wanbatch = str(WANBATCH)
    fast = ("--service", "emulator", "--poll-interval", "0.2", "--submit-rate", "50")
    debug = ("--log-level", "debug", "--log-format")
    stage.do("plan", wanbatch, "plan", "in.csv", "--service", "emulator", "--json", "--out", "plan.json")
    stage.do("run", wanbatch, "run", "in.csv", *fast, "--no-probe", *debug, "json")
    stage.do("run-buggy", sys.executable, "-c", BUGGY, "run", "bug.csv", *fast, "--no-probe", *debug, "json")
    buggy = (sys.executable, "-c", BUGGY, "run", "bug.csv", *fast, "--no-probe", *debug, "text")
    stage.do("run-buggy-flow", *buggy, BUG_IN_FLOW="yes")
    stage.do("run-probed", wanbatch, "run", "probed.csv", *fast, "--json", *debug, "text")
    bucket = ("--stage", "s3://edits/staged", "--videos", "s3://edits/videos")
    stage.do("run-staged", wanbatch, "run", "staged.csv", *fast, "--no-probe", *bucket, *debug, "json")
    stage.do("run-bad", wanbatch, "run", "bad.csv", *fast, *debug, "json")
    stage.do("check", wanbatch, "check", "bad.csv", "--json")
    stage.do("check-probe", wanbatch, "check", "in.csv", "--probe")
    for name, *more in (
        ("table",),
        ("csv", "--format", "csv", "--out", "report.csv"),
        ("html", "--html", "report.html"),
        ("focus", "--format", "focus", "--out", "focus.csv"),
        ("focus-parquet", "--format", "focus", "--out", "focus.parquet"),
    ):
        stage.do(f"report-{name}", wanbatch, "report", *more)
    stage.do("status", wanbatch, "status", "--json")
    stage.do("resolve", wanbatch, "resolve", "--json")
    stage.do("cancel", wanbatch, "cancel", "--service", "emulator")
    stage.do("verify", wanbatch, "ledger", "verify")
    stage.do("compact", wanbatch, "ledger", "compact")


def test_the_runs_met_what_they_were_to_meet(stage: tuple[Stage, Gateway, Collector, str]) -> None:
    """The secrets really left for the service and came back, and every kind of fault struck."""
    played, gateway, collector, api = stage
    assert gateway.authorizations == {f"Bearer {KEY}"}
    submitted = "".join(gateway.submitted)
    assert all(secret in submitted for name, secret in SECRETS.items() if name not in {"key", "bucket"})
    assert gateway.echoed >= 5
    assert len(gateway.result_secrets) > 4
    lines = [json.loads(line) for line in played.said["run"].splitlines() if line.startswith("{")]
    assert {line["level"] for line in lines} >= {"debug", "info", "warning"}
    assert any("submit in doubt" in line["message"] for line in lines)
    assert any(
        "KeyError" in json.loads(line).get("exception", "")
        for line in played.said["run-buggy"].splitlines()
        if line.startswith("{")
    )
    assert "staged: succeeded" in played.said["run-staged"], played.said["run-staged"]
    assert "Traceback" in played.said["run-buggy-flow"]
    assert collector.spans
    assert _logs(api)
    for name in ("report.csv", "report.html", "focus.csv", "focus.parquet", "plan.json"):
        assert (played.folder / name).stat().st_size > 0, name


def _logs(api: str) -> list[dict[str, object]]:
    """Wait for our records in Prefect's database."""
    for _ in range(60):
        if found := [log for log in runs_of(api, "logs") if str(log["name"]).startswith("wanbatch")]:
            return found
        time.sleep(0.5)
    return []


def test_no_secret_is_in_any_file(stage: tuple[Stage, Gateway, Collector, str]) -> None:
    """Output, logs, journal, ledger, Prefect's database, page, plan, videos: nothing holds a secret, in any form."""
    played, gateway, _, api = stage
    assert _logs(api)
    secrets = SECRETS | _seen(gateway)
    looked_at, found = 0, {}
    for path in sorted(played.folder.rglob("*")):
        if not path.is_file() or path.name in {"in.csv", "bug.csv", "probed.csv", "bad.csv"}:
            continue
        looked_at += 1
        if leaks := betrayed(_content(path), secrets):
            found[str(path.relative_to(played.folder))] = leaks
    assert looked_at > 30
    assert found == {}


def _seen(gateway: Gateway) -> dict[str, str]:
    """Name what only shows when it runs: the signatures of results, and of objects in buckets."""
    return {f"signature {n}": s for n, s in enumerate(sorted(gateway.result_secrets | gateway.signatures()))}


def _content(path: Path) -> bytes:
    """Give a file's bytes, and what a Parquet file says besides when it is read."""
    content = path.read_bytes()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        content += repr((table.to_pylist(), table.schema.metadata)).encode()
    return content


def test_no_secret_is_in_telemetry(stage: tuple[Stage, Gateway, Collector, str]) -> None:
    """What left over OpenTelemetry holds no secret, and no prompt either."""
    _, gateway, collector, _ = stage
    secrets = SECRETS | _seen(gateway)
    assert [leaks for payload in collector.payloads if (leaks := betrayed(payload, secrets))] == []
    assert not any(b"make it look" in payload for payload in collector.payloads)


def test_no_secret_is_in_prefects_answers(stage: tuple[Stage, Gateway, Collector, str]) -> None:
    """What Prefect's server tells of runs, logs and artifacts holds no secret."""
    _, _, _, api = stage
    told = {
        kind: json.dumps(runs_of(api, kind)).encode()
        for kind in ("flow_runs", "task_runs", "logs", "artifacts")
    }
    assert {kind: len(content) > 2 for kind, content in told.items()} == dict.fromkeys(told, True)
    assert {kind: leaks for kind, content in told.items() if (leaks := betrayed(content))} == {}
