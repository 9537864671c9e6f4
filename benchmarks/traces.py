"""What do traces cost?

`python -m benchmarks.traces` takes frames through what the services do for traces, and nothing
else: with traces off, on but with no frame sampled, and with every frame sampled, in which case a
collector in another process takes the spans. It tells CPU time, of all threads, so that a busy
machine tells the same.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import grpc

from common.domain.detections import StageTiming
from common.telemetry.tracing import MARKED, StreamTraces, Traces, traces_of
from tandem.cli.console import show_line

_FRAMES = 20_000
_FRAMES_SAMPLED = 4_000
_TIMING = StageTiming(
    "edge",
    decode_seconds=0.002,
    preprocess_seconds=0.001,
    queue_seconds=0.001,
    execute_seconds=0.020,
    encode_seconds=0.001,
    execute_after_seconds=0.004,
)
_NEVER = {"OTEL_TRACES_SAMPLER": "always_off"}
# No span is dropped, so that each one's export counts.
_ALWAYS = {"OTEL_TRACES_SAMPLER": "always_on", "OTEL_BSP_MAX_QUEUE_SIZE": "100000"}


def orchestrate(stream: StreamTraces, frame_id: int) -> str:
    """What an orchestrator does for one frame; returns what the frame carries on."""
    with stream.frame("frame", "", frame_id=frame_id, session="0123456789ab") as span:
        span.bind_to_logs()
        with span.call("transfer", node="edge", placement="full", request_bytes=30_000) as call:
            carried = call.traceparent
            call.tell(transfer_seconds=0.001)
        span.tell(placement="full", outcome="detections", detections=3)
    return carried


def serve(stream: StreamTraces, frame_id: int, traceparent: str) -> None:
    """What a backbone does for one frame."""
    with stream.frame(
        *("backbone", traceparent),
        frame_id=frame_id,
        session="0123456789ab",
        node="edge",
        sender="orchestrator",
        placement="full",
        request_bytes=30_000,
    ) as span:
        span.bind_to_logs()
        with span.call("transfer", node="edge", request_bytes=30_000) as call:
            call.tell(transfer_seconds=0.001, outcome="detections", detections=3)
        span.tell(codec="int8", outcome="detections", detections=3)
        span.add_steps(_TIMING)


def microseconds_of_a_frame(traces: Traces, frames: int) -> tuple[float, float]:
    """CPU time in an orchestrator, and in a backbone."""
    client, orchestrator = traces.stream(), traces.stream([MARKED])
    began = time.process_time()
    carried = [orchestrate(client, number) for number in range(frames)]
    between = time.process_time()
    for number, traceparent in enumerate(carried):
        serve(orchestrator, number, traceparent)
    ended = time.process_time()
    return 1e6 * (between - began) / frames, 1e6 * (ended - between) / frames


def collect(told: Connection) -> None:
    """Take spans, and forget them."""

    def export(request: bytes, context: grpc.ServicerContext) -> bytes:
        return b""

    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        handlers: dict[str, Any] = {"Export": grpc.unary_unary_rpc_method_handler(export)}
        service = "opentelemetry.proto.collector.trace.v1.TraceService"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        told.send(server.add_insecure_port("127.0.0.1:0"))
        server.start()
        server.wait_for_termination()


def main() -> None:
    """Measure, and tell."""
    here, there = multiprocessing.Pipe()
    collector = multiprocessing.get_context("spawn").Process(target=collect, args=(there,))
    collector.start()
    try:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{here.recv()}"}
        for name, environment, frames in (
            ("off", {}, _FRAMES),
            ("on, not sampled", {**endpoint, **_NEVER}, _FRAMES),
            ("on, sampled", {**endpoint, **_ALWAYS}, _FRAMES_SAMPLED),
        ):
            for each in [each for each in os.environ if each.startswith("OTEL_")]:
                del os.environ[each]
            os.environ.update(environment)
            traces = traces_of("benchmark", "edge", show_line)
            in_orchestrator, in_backbone = microseconds_of_a_frame(traces, frames)
            traces.close()
            show_line(
                f"{name}: {in_orchestrator:.1f} us of a frame in the orchestrator, "
                f"{in_backbone:.1f} us in the backbone"
            )
    finally:
        collector.kill()
        collector.join()


if __name__ == "__main__":
    main()
