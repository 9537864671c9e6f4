"""Traces: each step of a frame as a span of OpenTelemetry, where the environment switches them on.

A frame that is traced carries the W3C `traceparent` of its latest span from service to service; one
that is not traced carries nothing. So a trace costs bytes and time only of the frames in it.
Everything here is what is done while traces are off, which is nothing, and imports nothing;
`common.telemetry.open_telemetry` is the rest.
"""

from __future__ import annotations

import logging
import os
import re
import time
from types import TracebackType
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Tuple, Type, Union

from common.domain.detections import StageTiming
from common.domain.redaction import MASK

MetadataItem = Tuple[str, Union[str, bytes]]

MARKED = ("tandem-traced-frames", "marked")
"""Metadata of a call whose sender decides which frames are traced: those with a `traceparent`."""

LOGGER = "tandem.traces"
"""Name of the `logging` logger by which a client tells why nothing is traced."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
# As much as the specification has everybody pass on.
_MOST_STATE_CHARACTERS = 512
# While no collector answers, the exporter tells it at every try.
_TELL_AGAIN_SECONDS = 300.0
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Span:
    """One step of a frame that is traced. Of this class itself: of a frame that is not.

    Attributes:
        traceparent: what the frame carries on to the next service; empty: nothing.
        trace_id: of the trace, 32 hexadecimal digits; empty where the frame is not traced here.
        span_id: of the span, 16 of them.
    """

    __slots__ = ("traceparent",)

    trace_id = ""
    span_id = ""

    def __init__(self, traceparent: str = "") -> None:
        """Do nothing, and pass `traceparent` on."""
        self.traceparent = traceparent

    def call(self, name: str, **attributes: Any) -> Span:
        """Begin a step within this one: a call of another service."""
        return self

    def tell(self, **attributes: Any) -> None:
        """Note what has become known; None means that there is nothing to tell."""

    def fail(self, kind: str, message: str) -> None:
        """Note that the step failed.

        Args:
            kind: of the error, such as its status.
            message: a sentence for people.
        """

    def add_steps(self, timing: StageTiming) -> None:
        """Add what a stage's timing tells, each step as a span within this one, which ends now."""

    def end(self) -> None:
        """The step has ended."""

    def __enter__(self) -> Span:
        """Nothing to begin: it has begun."""
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """End the step; by an error, if one is on its way."""
        if error is not None:
            self.fail(type(error).__name__, str(error))
        self.end()

    def bind_to_logs(self) -> None:
        """Have all that the present task logs tell the trace."""


NOT_TRACED = Span()
"""Of a frame that is not traced."""


class StreamTraces:
    """What is traced of one stream's frames. Of this class itself: nothing, here.

    Attributes:
        metadata: of a call that carries these frames on.
        are_on: whether any frame may be traced here; one that is not may carry a trace on all the
            same.
    """

    are_on = False

    def __init__(self, metadata: Iterable[MetadataItem] = ()) -> None:
        """Pass on what the stream's own call has in its `metadata`."""
        self.metadata: Tuple[MetadataItem, ...] = tuple(
            (name, value) for name, value in metadata if _is_passed_on(name, value)
        )

    def frame(self, name: str, traceparent: str = "", **attributes: Any) -> Span:
        """Begin the span of a frame that has come, if it is traced.

        Args:
            name: of the span.
            traceparent: that the frame carries.
            attributes: of the span.
        """
        # Another service would refuse a frame for what is longer.
        is_valid = traceparent and _TRACEPARENT.fullmatch(traceparent)
        return Span(traceparent) if is_valid else NOT_TRACED


NOTHING_TRACED = StreamTraces()
"""Of a stream whose frames are not traced."""


class Traces:
    """What a service traces. Of this class itself: nothing."""

    def stream(self, metadata: Iterable[MetadataItem] = ()) -> StreamTraces:
        """Of a stream whose call has this metadata."""
        return StreamTraces(metadata)

    def of_calls(self, *, only_traced: bool = False) -> Traces:
        """Those of the frames that this service itself sends, as a client does.

        Args:
            only_traced: each of them comes with what it is part of, or is not traced; otherwise one
                without begins a trace.
        """
        return self

    def close(self) -> None:
        """Export what has ended, if that can be done quickly; nothing is traced afterwards."""


def _is_passed_on(name: str, value: Union[str, bytes]) -> bool:
    if isinstance(value, bytes):
        return False
    if name == "traceparent":
        return _TRACEPARENT.fullmatch(value) is not None
    if name == "tracestate":
        return len(value) <= _MOST_STATE_CHARACTERS
    return (name, value) == MARKED


def are_on(environment: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's environment variables switch traces on."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporters:
        return exporters.lower() != "none"
    return any(environment.get(name, "").strip() for name in _ENDPOINTS)


def traces_of(service: str, node: Optional[str], tell: Callable[[str], None]) -> Traces:
    """What this service traces, as the environment has it.

    Args:
        service: name of the service, unless the environment names it.
        node: that it runs on.
        tell: gets a sentence where traces, or their export, fail.
    """

    def from_environment() -> Traces:
        from common.telemetry.open_telemetry import exporting_traces

        return exporting_traces(service, node, tell)

    return traces_by(from_environment, tell) if are_on(os.environ) else Traces()


def traces_by(make: Callable[[], Traces], tell: Callable[[str], None]) -> Traces:
    """What `make` makes; where it fails, nothing is traced, and `tell` gets to know why."""
    try:
        return make()
    except ImportError as error:
        reason = f"{error}; install tandem-detr[traces], or set OTEL_SDK_DISABLED=true"
    # Its environment variables have more forms than could be checked, and a service has to serve.
    except Exception as error:
        reason = _without_headers(f"{type(error).__name__}: {error}", os.environ)
    tell(f"traces are off: {reason}")
    return Traces()


def tell_faults(tell: Callable[[str], None]) -> None:
    """Have what is logged of traces, by OpenTelemetry too, told by `tell`, and nowhere else."""
    faults = _Faults(tell)
    for name in ("opentelemetry", LOGGER):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(faults)


class _Faults(logging.Handler):
    """Tells what OpenTelemetry logs: that a collector does not answer, or that spans are dropped.

    Each sentence once in a while, although the exporter says it at every try.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Tell by this."""
        super().__init__(logging.WARNING)
        self._tell = tell
        self._told: Dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        now = time.monotonic()
        words = str(record.msg)
        if now - self._told.get(words, -_TELL_AGAIN_SECONDS) >= _TELL_AGAIN_SECONDS:
            self._told[words] = now
            self._tell(_without_headers(record.getMessage(), os.environ))


def _without_headers(text: str, environment: Mapping[str, str]) -> str:
    """A text without what goes to the collector as headers, which are its keys.

    OpenTelemetry quotes one that is malformed, and no word beside it tells what it is.
    """
    for name, headers in environment.items():
        if name.startswith("OTEL_") and name.endswith("_HEADERS"):
            for header in filter(None, map(str.strip, headers.split(","))):
                text = text.replace(header, MASK)
    return text
