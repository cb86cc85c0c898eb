"""Spans and metrics of runs. Attributes are names, numbers and outcomes: never a prompt, a URL or a key."""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Observation
from opentelemetry.trace import Status, StatusCode

from wanbatch.redact import scrub
from wanbatch.telemetry import THROTTLED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from opentelemetry.metrics import CallbackOptions, Meter
    from opentelemetry.trace import Span, Tracer

    from wanbatch.session import Session, Work
    from wanbatch.steps import Edit
    from wanbatch.walk import Steps

_TEXT_LIMIT = 100
"""Ids and codes come from the manifest and the network."""
_SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0)
"""Bounds of the histograms: an edit takes one to five minutes."""


class Recorder:
    """What is recorded of the runs of this process, with one tracer and one meter."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self._tracer = tracer
        self._runs: list[Session] = []
        self._open: dict[int, Work] = {}
        self._item: ContextVar[Span | None] = ContextVar("item", default=None)
        self._billed = meter.create_counter("wanbatch.billed", "s", "Seconds billed")
        self._cost = meter.create_counter("wanbatch.cost", "{currency}", "Cost at the rate card's prices")
        self._settled = meter.create_counter("wanbatch.attempts.settled", "{attempt}", "Attempts by outcome")
        self._requests = meter.create_counter("wanbatch.requests", "{request}", "Requests to the service")
        self._throttled = meter.create_counter("wanbatch.throttled", "{request}", "Requests answered by 429")
        self._polls = meter.create_counter("wanbatch.polls", "{poll}", "Looks at what is running")
        self._queue, self._run, self._detection = (
            meter.create_histogram(name, "s", words, explicit_bucket_boundaries_advisory=_SECONDS)
            for name, words in (
                ("wanbatch.attempt.queue_time", "From the submit to the start at the service"),
                ("wanbatch.attempt.run_time", "From the start to the end at the service"),
                ("wanbatch.attempt.detection_time", "From the end at the service to our knowing it"),
            )
        )
        self._observe(meter)

    # ------------------------------------------------------------------------------------------ the spans

    @asynccontextmanager
    async def run(self, session: Session) -> AsyncIterator[None]:
        """Trace a run, and let its progress be seen from outside."""
        self._runs.append(session)  # and it stays: the last figures are exported when it has ended
        attributes = {
            "wanbatch.run_id": session.run_id,
            "wanbatch.service": session.service.name,
            "wanbatch.rows": session.progress.rows,
        }
        with self._span("wanbatch.run", **attributes) as span:
            yield
            for name, number in session.progress.counts.items():
                span.set_attribute(f"wanbatch.count.{name}", number)
            if session.stopped:
                span.set_attribute("wanbatch.stopped", _short(session.stopped.reason))

    @asynccontextmanager
    async def item(self, work: Work) -> AsyncIterator[None]:
        """Trace an item's way from manifest to ledger."""
        self._open[id(work)] = work
        attributes = {
            "wanbatch.item": _short(work.item.name),
            "wanbatch.key": work.item.key,
            "wanbatch.attempt": work.number,
            "wanbatch.resolution": str(work.item.request.resolution),
            "wanbatch.outcome": "open",
        }
        try:
            with self._span("wanbatch.item", **attributes) as span:
                self._item.set(span)
                yield
                if work.attempt:
                    span.set_attribute("wanbatch.service", work.attempt.service)
                    span.set_attribute("wanbatch.task_id", _short(work.attempt.task_id or ""))
        finally:
            del self._open[id(work)]

    def traced(self, steps: Steps) -> Steps:
        """Give the steps, each with a span around it."""
        return steps._replace(
            submit=self._traced("submit", steps.submit),
            wait=self._traced("poll", self._timed(steps.wait)),
            download=self._traced("download", steps.download),
            record=self._traced("record", steps.record),
        )

    def _traced(self, name: str, step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def traced(*args: Any) -> Any:
            with self._span(name):
                return await step(*args)

        return traced

    def _timed(
        self, wait: Callable[[Session, Any], Awaitable[Edit]]
    ) -> Callable[[Session, Any], Awaitable[Edit]]:
        async def timed(session: Session, submission: Any) -> Edit:
            edit = await wait(session, submission)
            if edit.report.ended_at:
                late = (session.client.clock.now() - edit.report.ended_at).total_seconds()
                self._detection.record(max(late, 0.0), {"service": session.service.name})
            return edit

        return timed

    def _span(self, name: str, **attributes: Any) -> _Spanned:
        return _Spanned(self._tracer, name, attributes)

    # ---------------------------------------------------------------------------------------- the counters

    def settled(self, row: Mapping[str, Any]) -> None:
        """Count an attempt by its ledger row."""
        of = {"service": row["service"], "resolution": row["resolution"]}
        self._settled.add(1, of | {"outcome": row["status"]})
        if row["billed_s"] is not None:
            self._billed.add(float(row["billed_s"]), of)
        if row["cost"] is not None and row["currency"]:
            self._cost.add(float(row["cost"]), of | {"currency": row["currency"]})
        for histogram, name in ((self._queue, "queue_s"), (self._run, "run_s")):
            if row[name] is not None:
                histogram.record(row[name], {"service": row["service"]})
        if span := self._item.get():
            _tell(span, row)

    def requested(self, service: str, kind: str, outcome: str) -> None:
        """Count a request to the service."""
        self._requests.add(1, {"service": service, "kind": kind, "outcome": outcome})
        if outcome == THROTTLED:
            self._throttled.add(1, {"service": service, "kind": kind})

    def polled(self, outcome: str) -> None:
        """Count a look at what is running."""
        self._polls.add(1, {"outcome": outcome})

    # ------------------------------------------------------------------------------------------ the gauges

    def _observe(self, meter: Meter) -> None:
        gauges: tuple[tuple[str, str, str, Callable[[Session], int]], ...] = (
            ("rows", "{row}", "Rows of the manifest", lambda run: run.progress.rows),
            ("rows.settled", "{row}", "Rows that need nothing more", lambda run: run.progress.settled),
            ("attempts.in_flight", "{attempt}", "Edits at the service", lambda run: run.window.taken),
            (
                "attempts.in_doubt",
                "{attempt}",
                "Submits without an answer",
                lambda run: run.reconciler.doubts,
            ),
            ("attempts.parked", "{attempt}", "For a person", lambda run: run.progress.counts["parked"]),
            ("slots.used", "{slot}", "Slots in use", lambda run: run.watcher.running),
            ("slots.limit", "{slot}", "Slots of the account", lambda run: run.progress.slots),
        )
        for name, unit, words, read in gauges:
            meter.create_observable_up_down_counter(f"wanbatch.{name}", [self._reading(read)], unit, words)
        meter.create_observable_gauge(
            "wanbatch.cost.reserved", [self._reserved], "{currency}", "The worst that is in flight can cost"
        )
        meter.create_observable_gauge(
            "wanbatch.attempt.oldest_open", [self._oldest], "s", "Age of the oldest edit at the service"
        )

    def _reading(self, read: Callable[[Session], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observed(_: CallbackOptions) -> Iterator[Observation]:
            for session in list(self._runs):
                yield Observation(read(session), {"service": session.service.name})

        return observed

    def _reserved(self, _: CallbackOptions) -> Iterator[Observation]:
        for session in list(self._runs):
            told = session.progress
            if told.currency:
                of = {"service": session.service.name, "currency": told.currency}
                yield Observation(float(told.reserved), of)

    def _oldest(self, _: CallbackOptions) -> Iterator[Observation]:
        """Measure by the service's clock, by which 24 hours are all there is."""
        attempts = [work.attempt for work in list(self._open.values()) if work.attempt]
        for session in list(self._runs):
            ours = [a.submitted_at for a in attempts if a.submitted_at and a.service == session.service.name]
            if ours:
                age = (session.client.clock.now() - min(ours)).total_seconds()
                yield Observation(age, {"service": session.service.name})


class _Spanned:
    """A span that is current for a while; what an error says is scrubbed before it is kept."""

    def __init__(self, tracer: Tracer, name: str, attributes: dict[str, Any]) -> None:
        self._current = tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        )

    def __enter__(self) -> Span:
        self._span = self._current.__enter__()
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._span.set_attribute("error.type", kind.__name__)
            self._span.set_status(Status(StatusCode.ERROR, _short(str(error))))
        self._current.__exit__(kind, error, trace)


def _tell(span: Span, row: Mapping[str, Any]) -> None:
    span.set_attribute("wanbatch.outcome", row["status"])
    for name, value in (("code", row["code"]), ("currency", row["currency"])):
        if value:
            span.set_attribute(f"wanbatch.{name}", _short(value))
    for name in ("billed_s", "cost"):
        if row[name] is not None:
            span.set_attribute(f"wanbatch.{name}", float(row[name]))
    if row["status"] != "succeeded":
        span.set_status(Status(StatusCode.ERROR, row["status"]))


def _short(text: str) -> str:
    return scrub(text)[:_TEXT_LIMIT]
