"""Traces by OpenTelemetry, exported by OTLP; imported only where traces are on."""

from __future__ import annotations

import atexit
import os
import threading
import time
from typing import Any, Callable, Dict, Iterable, Optional

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from common.domain.detections import StageTiming
from common.domain.errors import ConfigurationError, shortened
from common.domain.redaction import masked
from common.telemetry.steps import steps_of
from common.telemetry.tracing import (
    MARKED,
    NOT_TRACED,
    MetadataItem,
    Span,
    StreamTraces,
    Traces,
    tell_faults,
)

TRACER = "tandem"
"""Name of what makes the spans, as a trace shows it."""

_PREFIX = "tandem."
# How long the end of a process waits for a collector.
_CLOSE_SECONDS = 1.0
_W3C = TraceContextTextMapPropagator()
# What a frame belongs to whose sender has not traced it, and a stream without a parent.
_NO_PARENT = Context()


class _Clock:
    """Nanoseconds since 1970 that never step back, whatever becomes of the system's clock."""

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.perf_counter_ns()

    def now(self) -> int:
        return self._offset + time.perf_counter_ns()


class TracedSpan(Span):
    """One step of a frame that is traced, on OpenTelemetry's side."""

    __slots__ = ("_clock", "_ended", "_span", "_start", "_tracer", "span_id", "trace_id")

    def __init__(self, tracer: trace.Tracer, span: trace.Span, clock: _Clock, start: int) -> None:
        """Wrap a span that has begun at `start`, by `clock`."""
        context = span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.span_id = f"{context.span_id:016x}"
        super().__init__(f"00-{self.trace_id}-{self.span_id}-{int(context.trace_flags):02x}")
        self._tracer = tracer
        self._span = span
        self._clock = clock
        self._start = start
        self._ended = 0

    def call(self, name: str, **attributes: Any) -> Span:
        """See `Span.call`."""
        start = self._clock.now()
        span = self._begun(name, start, SpanKind.CLIENT, attributes)
        return TracedSpan(self._tracer, span, self._clock, start)

    def tell(self, **attributes: Any) -> None:
        """See `Span.tell`."""
        self._span.set_attributes(_attributes(attributes))

    def fail(self, kind: str, message: str) -> None:
        """See `Span.fail`."""
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, shortened(masked(message))))

    def add_steps(self, timing: StageTiming) -> None:
        """See `Span.add_steps`; no step begins before this one, whatever was rounded."""
        # The spans below take a while themselves.
        self._ended = self._clock.now()
        for step in steps_of(timing):
            start = max(self._start, round(step.start * 1e9))
            span = self._begun(step.name, start, SpanKind.INTERNAL, {})
            span.end(max(start, round(step.end * 1e9)))

    def end(self) -> None:
        """See `Span.end`."""
        self._span.end(self._ended or self._clock.now())

    def bind_to_logs(self) -> None:
        """See `Span.bind_to_logs`."""
        structlog.contextvars.bind_contextvars(trace_id=self.trace_id, span_id=self.span_id)

    def _begun(
        self, name: str, start: int, kind: SpanKind, attributes: Dict[str, Any]
    ) -> trace.Span:
        return self._tracer.start_span(
            name,
            trace.set_span_in_context(self._span, _NO_PARENT),
            kind,
            _attributes(attributes),
            start_time=start,
        )


class TracedStream(StreamTraces):
    """What is traced of one stream's frames."""

    are_on = True

    def __init__(self, tracer: trace.Tracer, kind: SpanKind, parent: Optional[Context]) -> None:
        """Prepare.

        Args:
            tracer: makes the spans.
            kind: of a frame's span.
            parent: what a frame without a `traceparent` is part of; a trace of its own begins with
                each if that is empty. None: such a frame is not traced.
        """
        super().__init__([MARKED])
        self._tracer = tracer
        self._kind = kind
        self._parent = parent

    def frame(self, name: str, traceparent: str = "", **attributes: Any) -> Span:
        """See `StreamTraces.frame`."""
        parent = self._parent
        if traceparent:
            parent = _W3C.extract({"traceparent": traceparent}, parent or _NO_PARENT)
            if (
                self._parent is None
                and not trace.get_current_span(parent).get_span_context().is_valid
            ):
                return NOT_TRACED
        if parent is None:
            return NOT_TRACED
        clock = _Clock()
        start = clock.now()
        span = self._tracer.start_span(
            name, parent, self._kind, _attributes(attributes), start_time=start
        )
        if not span.get_span_context().trace_flags.sampled:
            return NOT_TRACED
        return TracedSpan(self._tracer, span, clock, start)


class ServedTraces(Traces):
    """Traces of a service: of frames that come with calls."""

    def __init__(self, provider: TracerProvider) -> None:
        """Trace by this provider, which is closed with this."""
        self._tracer = provider.get_tracer(TRACER)
        self._closing = _Closing(provider)

    def stream(self, metadata: Iterable[MetadataItem] = ()) -> StreamTraces:
        """See `Traces.stream`."""
        items = list(metadata)
        parent = None if MARKED in items else _parent_of(items)
        return TracedStream(self._tracer, SpanKind.SERVER, parent)

    def of_calls(self, *, only_traced: bool = False) -> Traces:
        """See `Traces.of_calls`."""
        return CallersTraces(self._tracer, only_traced=only_traced)

    def close(self) -> None:
        """See `Traces.close`."""
        self._closing.close()


class CallersTraces(Traces):
    """Traces of a client: of frames that it sends."""

    def __init__(self, tracer: trace.Tracer, *, only_traced: bool = False) -> None:
        """Trace by this tracer; for `only_traced` see `Traces.of_calls`."""
        self._tracer = tracer
        self._only_traced = only_traced

    def stream(self, metadata: Iterable[MetadataItem] = ()) -> StreamTraces:
        """Of a stream that is opened now: its frames are part of the span that is current now."""
        if self._only_traced:
            return TracedStream(self._tracer, SpanKind.CLIENT, None)
        current = trace.get_current_span()
        parent = _NO_PARENT
        carrier: Dict[str, str] = {}
        if current.get_span_context().is_valid:
            parent = trace.set_span_in_context(current, _NO_PARENT)
            # For those between here and the orchestrator who read metadata only.
            _W3C.inject(carrier, parent)
        stream = TracedStream(self._tracer, SpanKind.CLIENT, parent)
        stream.metadata += tuple(carrier.items())
        return stream


def exporting_traces(
    service: str, node: Optional[str], tell: Callable[[str], None]
) -> ServedTraces:
    """The traces of a service, exported; for the arguments see `tracing.traces_of`.

    Raises:
        ImportError: the exporter is not installed.
        ConfigurationError: the environment asks for an exporter that there is not.
    """
    tell_faults(tell)
    return ServedTraces(_provider(service, node))


def exporting_callers_traces(service: str) -> CallersTraces:
    """The traces of a client, exported until its process ends; `service` is its name.

    OpenTelemetry tells by `logging` where that fails, as a program expects it to.

    Raises:
        ImportError: the exporter is not installed.
        ConfigurationError: the environment asks for an exporter that there is not.
    """
    provider = _provider(service)
    atexit.register(_Closing(provider).close)
    return CallersTraces(provider.get_tracer(TRACER))


def _provider(service: str, node: Optional[str] = None) -> TracerProvider:
    """What samples and exports spans as OpenTelemetry's environment variables say."""
    exporter = _exporter()
    # What is passed here would go over what the environment says.
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    attributes = {} if named else {"service.name": f"tandem-{service}"}
    if node is not None:
        attributes["tandem.node"] = node
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporter() -> SpanExporter:
    asked = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if asked != "otlp":
        raise ConfigurationError(f"OTEL_TRACES_EXPORTER is {asked!r}; Tandem exports by otlp alone")
    names = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((os.environ[name] for name in names if os.environ.get(name)), "grpc")
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http import trace_exporter

        return trace_exporter.OTLPSpanExporter()
    raise ConfigurationError(
        f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}; Tandem has grpc and http/protobuf"
    )


def _parent_of(metadata: Iterable[MetadataItem]) -> Context:
    carrier = {name: value for name, value in metadata if isinstance(value, str)}
    return _W3C.extract(carrier, _NO_PARENT)


def _attributes(told: Dict[str, Any]) -> Dict[str, Any]:
    return {_PREFIX + name: value for name, value in told.items() if value is not None}


class _Closing:
    """Closes a provider, for which a collector that does not answer could take minutes.

    The thread for it is there from the start: none can be started while the interpreter ends.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._asked = threading.Event()
        self._done = threading.Event()
        threading.Thread(target=self._run, name="close-traces", daemon=True).start()

    def close(self) -> None:
        self._asked.set()
        self._done.wait(_CLOSE_SECONDS)

    def _run(self) -> None:
        self._asked.wait()
        self._provider.shutdown()
        self._done.set()
