"""A collector of traces: a real server of OTLP over gRPC, or over HTTP. Runs on Python 3.8."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable, Dict, List, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.waiting import PATIENCE_SECONDS

# How far the clocks of two processes of one machine, and what timings round, may be apart.
TOLERANCE_NANOSECONDS = 2_000_000
# So that a test does not wait for the exporter.
AT_ONCE = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


class Received(NamedTuple):
    """A span, as it came; ids in hexadecimal."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start: int
    end: int
    attributes: Dict[str, object]
    error: str
    status: int
    state: str

    @property
    def frame_id(self):
        return self.attributes.get("tandem.frame_id")

    def lies_within(self, other: "Received") -> bool:
        return (
            other.start - TOLERANCE_NANOSECONDS <= self.start <= self.end
            and self.end <= other.end + TOLERANCE_NANOSECONDS
        )


class Collector:
    """What has been received so far.

    Attributes:
        spans: in the order of their coming.
        endpoint: where it listens.
    """

    def __init__(self) -> None:
        self.spans: List[Received] = []
        self.endpoint = ""
        self._changed = threading.Condition()

    def take(self, request: trace_service_pb2.ExportTraceServiceRequest) -> None:
        spans = [
            _received(span, _values(resource.resource.attributes))
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._changed:
            self.spans += spans
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[List[Received]], bool]) -> List[Received]:
        """All spans, once the condition holds for them."""
        end = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while not condition(self.spans):
                left = end - time.monotonic()
                names = [(each.service, each.name, each.frame_id) for each in self.spans]
                assert left > 0, f"it never came to be; received: {names}"
                self._changed.wait(left)
            return list(self.spans)

    def environment(self, **more: str) -> Dict[str, str]:
        """What has a process export to here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, **AT_ONCE, **more}


@contextmanager
def grpc_collector():
    """A running collector, by gRPC."""
    collector = Collector()

    class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request, context):  # noqa: N802
            collector.take(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        collector.endpoint = f"http://127.0.0.1:{port}"
        try:
            yield collector
        finally:
            server.stop(None).wait()


@contextmanager
def http_collector():
    """A running collector, by HTTP."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802
            assert self.path == "/v1/traces"
            data = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(trace_service_pb2.ExportTraceServiceRequest.FromString(data))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _received(span, resource) -> Received:
    return Received(
        service=resource["service.name"],
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        error=span.status.message,
        status=span.status.code,
        state=span.trace_state,
    )


def _values(attributes) -> Dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
