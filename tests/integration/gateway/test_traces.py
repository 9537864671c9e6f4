"""Requests with a trace context of W3C: what is detected for them is part of their trace."""

import secrets

import grpc
import pytest

from protos.inference import open_inference_pb2, open_inference_pb2_grpc
from tests.collector import grpc_collector
from tests.harness import Cluster
from tests.picture_doors import Caller, gateway_of
from tests.streams import jpeg

PARENT = "00f067aa0ba902b7"


def traceparent(trace_id, flags="01"):
    return f"00-{trace_id}-{PARENT}-{flags}"


@pytest.fixture(scope="module")
def collector():
    with grpc_collector() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(collector):
    """Before a node and an orchestrator; all of them export to the collector."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in collector.environment().items():
            patch.setenv(name, value)
        running = Cluster(nodes=("edge",))
        try:
            with gateway_of(running.address, "--detection-api", "--open-inference") as gateway:
                yield gateway
        finally:
            running.close()


@pytest.fixture
def traces(collector):
    """Ids of two traces. Spans of an earlier test's may still come."""
    collector.spans.clear()
    return secrets.token_hex(16), secrets.token_hex(16)


def chain(spans, trace_id):
    """Names and services from the root to the orchestrator, of one trace."""
    own = {each.parent_id: each for each in spans if each.trace_id == trace_id}
    names, parent = [], PARENT
    while len(names) < 3:
        names.append((own[parent].name, own[parent].service))
        parent = own[parent].span_id
    return names


def wait_for(collector, trace_id, *names):
    """All spans, once the trace has these."""
    return collector.wait_for(
        lambda spans: set(names) <= {each.name for each in spans if each.trace_id == trace_id}
    )


def test_requests_that_share_a_stream_keep_their_traces(gateway, collector, traces):
    caller = Caller(gateway)
    for number, trace_id in enumerate(traces):
        trace = {"traceparent": traceparent(trace_id), "tracestate": f"their={number}"}
        headers = {"content-type": "image/jpeg", **trace}
        assert caller.post("/detect", jpeg(number), headers).status == 200
    for number, trace_id in enumerate(traces):
        spans = wait_for(collector, trace_id, "request", "detect", "frame")
        assert chain(spans, trace_id) == [
            ("request", "tandem-gateway"),
            ("detect", "tandem-gateway"),
            ("frame", "tandem-orchestrator"),
        ]
        (request,) = [e for e in spans if e.name == "request" and e.trace_id == trace_id]
        assert request.state == f"their={number}"
        assert request.attributes["tandem.path"] == "/detect"
        assert request.attributes["tandem.http_status"] == 200


def test_what_a_caller_has_not_sampled_is_not_traced(gateway, collector, traces):
    caller = Caller(gateway)
    for number, flags in enumerate(("00", "01")):
        headers = {
            "content-type": "image/jpeg",
            "traceparent": traceparent(traces[number], flags),
        }
        assert caller.post("/detect", jpeg(number), headers).status == 200
    spans = wait_for(collector, traces[1], "request", "detect", "frame")
    assert traces[0] not in {each.trace_id for each in spans}


async def test_inference_is_part_of_its_callers_trace(gateway, collector, traces):
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = open_inference_pb2.ModelInferRequest(model_name="tandem")
        tensor = request.inputs.add(name="image", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(jpeg(1))
        metadata = (("traceparent", traceparent(traces[0])),)
        await stub.ModelInfer(request, metadata=metadata)
    spans = wait_for(collector, traces[0], "ModelInfer", "detect", "frame")
    assert chain(spans, traces[0])[0] == ("ModelInfer", "tandem-gateway")
