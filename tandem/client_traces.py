"""The client's part of traces: a span for each frame that it sends, if that is switched on.

A program that has set up OpenTelemetry itself gets these spans among its own: those of a stream are
part of the span in which the stream was begun. In any other program the environment variables of
OpenTelemetry switch them on, as they do in Tandem's services.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import lru_cache
from typing import Any

from common.telemetry.tracing import LOGGER, Span, Traces, are_on, traces_by
from tandem.results import FrameResult

SERVICE = "client"


def client_traces() -> Traces:
    """What this program traces now; nothing is imported for it unless it is switched on."""
    api = sys.modules.get("opentelemetry.trace")
    if api is not None and not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):
        return traces_by(lambda: _callers(api), logging.getLogger(LOGGER).warning)
    return _exporting() if are_on(os.environ) else Traces()


def _callers(api: Any) -> Traces:
    from common.telemetry.open_telemetry import TRACER, CallersTraces

    return CallersTraces(api.get_tracer(TRACER))


@lru_cache(maxsize=1)
def _exporting() -> Traces:
    """The one exporter of this process, which exports until the process ends."""
    return traces_by(_from_environment, logging.getLogger(LOGGER).warning)


def _from_environment() -> Traces:
    from common.telemetry.open_telemetry import exporting_callers_traces

    return exporting_callers_traces(SERVICE)


def end_span(span: Span, result: FrameResult) -> None:
    """End a frame's span by what was answered."""
    if not span.trace_id:
        return
    outcome = "dropped" if result.dropped else "error" if result.error else "detections"
    span.tell(
        outcome=outcome,
        detections=len(result.detections),
        placement=result.node_pair.name if result.node_pair else None,
    )
    if result.error is not None:
        span.fail(type(result.error).__name__, str(result.error))
    span.end()
