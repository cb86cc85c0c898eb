"""Traces and metrics say what the books say, go where OpenTelemetry's variables send them, and cost nothing unasked."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client.parser import text_string_to_metric_families

from tests.collector import Collector, attributes, collecting
from tests.conftest import WANBATCH, Account, environment, options, write_manifest
from wanbatch import telemetry, walk, wire
from wanbatch.errors import LeftOpen, UsageError
from wanbatch.ledger import Ledger
from wanbatch.opening import open_session
from wanbatch.options import RunOptions
from wanbatch.session import Session
from wanbatch.settings import Exporters, exporters
from wanbatch.steps import Submission
from wanbatch.summary import Summary, summarise
from wanbatch.telemetry import recording
from wanbatch.telemetry.exporting import exporting
from wanbatch.telemetry.recorder import Recorder

pytestmark = [pytest.mark.timeout(90), pytest.mark.xdist_group("telemetry")]

PROMPT = "make it look like clay"


class Memory:
    """A recorder, and what it recorded."""

    def __init__(self) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        traces = TracerProvider(shutdown_on_exit=False)
        traces.add_span_processor(SimpleSpanProcessor(self._spans))
        metrics = MeterProvider([self._reader], shutdown_on_exit=False)
        self.recorder = Recorder(traces.get_tracer("tests"), metrics.get_meter("tests"))

    def spans(self, name: str) -> list[ReadableSpan]:
        """Give the ended spans of a name, in order of their start."""
        ended = self._spans.get_finished_spans()
        return sorted((span for span in ended if span.name == name), key=lambda span: span.start_time or 0)

    def figures(self) -> dict[str, float]:
        """Give every metric's value now, its points added up."""
        read: Any = self._reader.get_metrics_data()
        return {
            metric.name: sum(getattr(point, "value", 0) for point in metric.data.data_points)
            for resource in read.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def memory() -> Any:
    """Record into memory."""
    kept = Memory()
    token = recording.set(kept.recorder)
    yield kept
    recording.reset(token)


async def edit(asked: RunOptions) -> Summary:
    """Run the whole walk once, exporting what the environment asks for."""
    async with exporting(), open_session(asked) as session:
        await walk.edit_videos(session, walk.Steps())
        return await summarise(session)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Give the ledger's rows."""
    rows: list[dict[str, Any]] = Ledger(folder / "ledger").read_attempts().to_pylist()
    return rows


def a_manifest(folder: Path, rows: int) -> Path:
    """Write a manifest whose third row fails at the service."""
    manifest = write_manifest(folder / "m.csv", rows)
    lines = manifest.read_text().splitlines()
    lines[3] = lines[3].replace("make it look", "a forbidden look")
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def add_up(rows: list[dict[str, Any]], name: str) -> float:
    """Add up a column exactly."""
    return float(sum((row[name] for row in rows), Decimal(0)))


async def test_a_collector_gets_the_figures_of_the_ledger(
    tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What leaves over OTLP is, to the last float, what the ledger has, with units and the service's name."""
    account.faults({"kind": "throttle-rate", "nth": 2})
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        summary = await edit(options(tmp_path, a_manifest(tmp_path, 6)))
    rows = rows_of(tmp_path)
    assert summary.counts == {"failed": 1, "submitted": 6, "succeeded": 5}
    assert collector.total("wanbatch.billed") == pytest.approx(add_up(rows, "billed_s"), rel=1e-12)
    assert collector.total("wanbatch.cost", currency="USD") == pytest.approx(add_up(rows, "cost"), rel=1e-12)
    for size in ("720P", "1080P"):
        of_size = [row for row in rows if row["resolution"] == size]
        assert collector.total("wanbatch.cost", resolution=size) == pytest.approx(add_up(of_size, "cost"))
    assert collector.total("wanbatch.attempts.settled", outcome="succeeded") == 5
    assert collector.total("wanbatch.attempts.settled", outcome="failed") == 1
    assert collector.total("wanbatch.throttled", kind="submit") == 1
    assert collector.total("wanbatch.requests", kind="submit", outcome="ok") == 6
    assert collector.total("wanbatch.polls", outcome="ok") > 0
    assert collector.total("wanbatch.rows.settled") == collector.total("wanbatch.rows") == 6
    assert collector.total("wanbatch.attempts.in_flight") == 0
    (queues,) = collector.points["wanbatch.attempt.queue_time"].values()
    assert queues[0] == sum(row["queue_s"] is not None for row in rows)
    assert (collector.units["wanbatch.billed"], collector.units["wanbatch.cost"]) == ("s", "{currency}")
    assert {resource["service.name"] for resource in collector.resources} == {"wanbatch"}
    assert len(collector.spans) == 1 + 6 + 6 * 4 - 1  # a run, six items, and no download of the failed one
    _says_nothing_secret(collector)


def _says_nothing_secret(collector: Collector) -> None:
    for secret in (PROMPT, "forbidden look", "media.example.com", "sk-emulator", "Signature"):
        assert not any(secret.encode() in payload for payload in collector.payloads), secret
    told = [attributes(span.attributes) for span in collector.spans if span.name == "wanbatch.item"]
    assert {one["wanbatch.outcome"] for one in told} == {"succeeded", "failed"}
    assert {one.get("wanbatch.code") for one in told} == {None, "DataInspectionFailed"}


@pytest.mark.usefixtures("account")
async def test_one_trace_a_run(tmp_path: Path, memory: Memory) -> None:
    """A run is one trace: the run, its items, and under each item the steps it went through."""
    await edit(options(tmp_path, a_manifest(tmp_path, 3)))
    (run,) = memory.spans("wanbatch.run")
    items = memory.spans("wanbatch.item")
    assert [span.parent and span.parent.span_id for span in items] == [run.context.span_id] * 3
    by_name = {str((span.attributes or {})["wanbatch.item"]): span for span in items}
    for row in rows_of(tmp_path):
        told = dict(by_name[row["id"]].attributes or {})
        assert told["wanbatch.task_id"] == row["task_id"]
        assert told["wanbatch.outcome"] == row["status"]
        assert told["wanbatch.billed_s"] == float(row["billed_s"])
        assert (told["wanbatch.attempt"], told["wanbatch.service"]) == (row["attempt"], "emulator")
    for name, steps in (
        ("clip-0001", {"submit", "poll", "download", "record"}),
        ("clip-0003", {"submit", "poll", "record"}),
    ):
        ours = by_name[name].context.span_id
        under = {
            step
            for step in ("submit", "poll", "download", "record")
            for span in memory.spans(step)
            if span.parent and span.parent.span_id == ours
        }
        assert under == steps
    assert by_name["clip-0001"].status.status_code is StatusCode.UNSET
    assert by_name["clip-0003"].status.status_code is StatusCode.ERROR
    assert {span.context.trace_id for span in items} == {run.context.trace_id}


@pytest.mark.usefixtures("account")
async def test_gauges_while_it_runs(tmp_path: Path, memory: Memory) -> None:
    """What is at the service is seen while it is there: slots, edits, money reserved, the age of the oldest."""
    seen: list[dict[str, float]] = []

    async def wait(session: Session, submission: Submission) -> Any:
        seen.append(memory.figures())
        return await walk.Steps().wait(session, submission)

    async with open_session(options(tmp_path, write_manifest(tmp_path / "m.csv", 4), slots=3)) as session:
        await walk.edit_videos(session, walk.Steps(wait=wait))
    first = seen[0]
    assert 1 <= first["wanbatch.attempts.in_flight"] <= 4
    assert first["wanbatch.slots.limit"] == 3
    assert first["wanbatch.slots.used"] <= min(first["wanbatch.attempts.in_flight"], 3)
    assert first["wanbatch.cost.reserved"] > 0
    assert first["wanbatch.attempt.oldest_open"] >= 0
    after = memory.figures()
    assert after["wanbatch.attempts.in_flight"] == after["wanbatch.cost.reserved"] == 0
    assert "wanbatch.attempt.oldest_open" not in after


async def test_doubts_are_counted(tmp_path: Path, account: Account, memory: Memory) -> None:
    """A submit without an answer is an attempt in doubt until the list shows what became of it."""
    account.faults({"kind": "accept-then-drop", "nth": 1})
    seen: list[float] = []

    async def look() -> None:
        while True:
            seen.append(memory.figures().get("wanbatch.attempts.in_doubt", 0))
            await asyncio.sleep(0.02)

    async with open_session(options(tmp_path, write_manifest(tmp_path / "m.csv", 1))) as session:
        looking = asyncio.create_task(look())
        await walk.edit_videos(session, walk.Steps())
        looking.cancel()
    assert max(seen) == 1
    assert memory.figures()["wanbatch.attempts.in_doubt"] == 0


@pytest.mark.usefixtures("account")
async def test_an_error_on_a_span_is_scrubbed(tmp_path: Path, memory: Memory) -> None:
    """What went wrong in a step stands on its span, without the signature that the message carried."""

    async def wait(_session: Session, _submission: Submission) -> Any:
        raise LeftOpen(
            "GET https://b.example/a.mp4?Expires=1&Signature=topsecret01 with sk-topsecret02: gone"
        )

    async with open_session(options(tmp_path, write_manifest(tmp_path / "m.csv", 1))) as session:
        await walk.edit_videos(session, walk.Steps(wait=wait))
    (span,) = memory.spans("poll")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "LeftOpen"
    assert "gone" in (span.status.description or "")
    assert "topsecret" not in span.to_json()
    (item,) = memory.spans("wanbatch.item")
    assert (item.attributes or {})["wanbatch.outcome"] == "open"


def free_port() -> int:
    """Give a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.usefixtures("account")
async def test_prometheus_scrapes_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a run lasts its metrics can be scraped as Prometheus text, and they end at the ledger's figures."""
    port = free_port()
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    scraped: list[dict[str, float]] = []

    async def scrape() -> None:
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://127.0.0.1:{port}/metrics")
        families = list(text_string_to_metric_families(answer.raise_for_status().text))
        sums: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        scraped.append(sums)

    async def wait(session: Session, submission: Submission) -> Any:
        await scrape()
        return await walk.Steps().wait(session, submission)

    async with exporting(), open_session(options(tmp_path, a_manifest(tmp_path, 5))) as session:
        await walk.edit_videos(session, walk.Steps(wait=wait))
        await session.flush()
        await scrape()
    rows = rows_of(tmp_path)
    assert max(told["wanbatch_attempts_in_flight"] for told in scraped[:-1]) >= 1
    assert scraped[-1]["wanbatch_billed_seconds_total"] == pytest.approx(add_up(rows, "billed_s"))
    assert scraped[-1]["wanbatch_cost_total"] == pytest.approx(add_up(rows, "cost"))
    assert scraped[-1]["wanbatch_attempts_in_flight"] == 0
    with pytest.raises(httpx.ConnectError):
        await scrape()


async def test_a_taken_port_is_said(
    tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that is taken ends the run before it begins, in one line that says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(taken.getsockname()[1]))
        with pytest.raises(UsageError, match="choose another --metrics-port"):
            await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 1)))
    assert account.get("tasks")["tasks"] == []


async def test_a_collector_that_is_down_stops_nobody(
    tmp_path: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing takes the telemetry, the videos are edited and booked all the same."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    summary = await edit(options(tmp_path, write_manifest(tmp_path / "m.csv", 2)))
    assert summary.counts["succeeded"] == 2
    assert summary.cost == account.billed()


@pytest.mark.parametrize(
    ("environment", "meant"),
    [
        ({}, Exporters()),
        ({"OTEL_SERVICE_NAME": "edits"}, Exporters(named=True)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, Exporters(("otlp",), ("otlp",))),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces"}, Exporters(("otlp",))),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"},
            Exporters((), ("otlp",)),
        ),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, Exporters((), ("prometheus",))),
        (
            {"OTEL_EXPORTER_PROMETHEUS_PORT": "9000", "OTEL_EXPORTER_PROMETHEUS_HOST": "0.0.0.0"},  # noqa: S104 - asked for
            Exporters((), ("prometheus",), ("0.0.0.0", 9000)),  # noqa: S104 - likewise
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, Exporters()),
    ],
    ids=str,
)
def test_the_standard_variables(environment: dict[str, str], meant: Exporters) -> None:
    """Exporters are chosen as OpenTelemetry's specification says, except that none is the default."""
    assert exporters(environment) == meant


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER.*zipkin.*console, otlp or none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ({"OTEL_EXPORTER_PROMETHEUS_PORT": "99999"}, "no port"),
        ({"OTEL_EXPORTER_PROMETHEUS_PORT": "²"}, "no port"),
    ],
    ids=str,
)
def test_what_is_not_there_is_said(environment: dict[str, str], words: str) -> None:
    """An exporter, protocol or port that can't be is refused in one line."""
    with pytest.raises(UsageError, match=words):
        exporters(environment)


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", wire.SUBMIT_PATH, "submit"),
        ("GET", "/tasks/", "list"),
        ("GET", "/tasks/0c8f", "query"),
        ("POST", "/tasks/0c8f/cancel", "cancel"),
        ("GET", wire.UPLOADS_PATH, "policy"),
    ],
)
def test_kinds_of_requests(method: str, path: str, kind: str) -> None:
    """A request is counted as what it asks for, whatever task it is about."""
    assert telemetry.kind_of(method, path) == kind


@pytest.mark.parametrize(
    ("exchanged", "outcome"),
    [
        (wire.Answer(200), "ok"),
        (wire.Answer(400), "refused"),
        (wire.Answer(429), "throttled"),
        (wire.Answer(502), "server_error"),
        (wire.Answer(302), "other"),
        (wire.Answer(200, whole=False), "broken"),
        (wire.Failure("reset", sent=True), "unanswered"),
        (wire.Failure("no such host", sent=False), "unsent"),
    ],
    ids=str,
)
def test_outcomes_of_requests(exchanged: wire.Answer | wire.Failure, outcome: str) -> None:
    """What came of a request is one of a few words."""
    assert telemetry.outcome_of(exchanged) == outcome


def test_unasked_it_is_not_even_imported() -> None:
    """Without a variable that asks for it, the flow loads neither the SDK nor an exporter."""
    code = (
        "import asyncio, sys, flows.edit_videos\n"
        "from wanbatch.telemetry.exporting import exporting\n"
        "async def run():\n"
        "    async with exporting(): pass\n"
        "asyncio.run(run())\n"
        "loaded = [name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter',"
        " 'wanbatch.telemetry.recorder'))]\n"
        "sys.exit(str(loaded) if loaded else 0)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.xdist_group("prefect")
def test_metrics_of_the_command(tmp_path: Path, account: Account) -> None:
    """`wanbatch run --metrics-port` serves the figures of the run for as long as it lasts."""
    write_manifest(tmp_path / "m.csv", 4)
    port, scraped = free_port(), ""
    asked = f"run m.csv --service emulator --no-probe --poll-interval 0.2 --json --metrics-port {port}"
    with subprocess.Popen(
        [str(WANBATCH), *asked.split()],
        cwd=tmp_path,
        env=environment(account, tmp_path / "prefect"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as running:
        while running.poll() is None:
            with suppress(httpx.HTTPError):
                answer = httpx.get(f"http://127.0.0.1:{port}/metrics")
                scraped = answer.text if "wanbatch_rows{" in answer.text else scraped
            time.sleep(0.05)
    assert running.returncode == 0
    figures = {
        sample.name: sample.value for one in text_string_to_metric_families(scraped) for sample in one.samples
    }
    assert figures["wanbatch_rows"] == 4
    assert figures["wanbatch_slots_limit"] == 5
