"""Requests with a trace context of W3C: what is detected for them is part of their trace."""

import grpc
import pytest

from protos.inference import open_inference_pb2, open_inference_pb2_grpc
from tests.collector import grpc_collector
from tests.harness import Cluster
from tests.picture_doors import Caller, gateway_of
from tests.streams import jpeg

TRACES = ("4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c")
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


@pytest.fixture(autouse=True)
def nothing_received(collector):
    collector.spans.clear()


def chain(spans, trace_id):
    """Names and services from the root to the orchestrator, of one trace."""
    own = {each.parent_id: each for each in spans if each.trace_id == trace_id}
    names, parent = [], PARENT
    while len(names) < 3:
        names.append((own[parent].name, own[parent].service))
        parent = own[parent].span_id
    return names


def are_whole(count):
    return lambda spans: (
        sum(each.name == "frame" for each in spans) == count
        and (sum(each.name in ("request", "ModelInfer") for each in spans) == count)
    )


def test_requests_that_share_a_stream_keep_their_traces(gateway, collector):
    caller = Caller(gateway)
    for number, trace_id in enumerate(TRACES):
        headers = {"content-type": "image/jpeg", "traceparent": traceparent(trace_id)}
        assert caller.post("/detect", jpeg(number), headers).status == 200
    spans = collector.wait_for(are_whole(2))
    for trace_id in TRACES:
        assert chain(spans, trace_id) == [
            ("request", "tandem-gateway"),
            ("detect", "tandem-gateway"),
            ("frame", "tandem-orchestrator"),
        ]
    (request, _) = [each for each in spans if each.name == "request"]
    assert request.attributes["tandem.path"] == "/detect"
    assert request.attributes["tandem.http_status"] == 200


def test_what_a_caller_has_not_sampled_is_not_traced(gateway, collector):
    caller = Caller(gateway)
    for number, flags in enumerate(("00", "01")):
        headers = {
            "content-type": "image/jpeg",
            "traceparent": traceparent(TRACES[number], flags),
        }
        assert caller.post("/detect", jpeg(number), headers).status == 200
    spans = collector.wait_for(are_whole(1))
    assert {each.trace_id for each in spans} == {TRACES[1]}


async def test_inference_is_part_of_its_callers_trace(gateway, collector):
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = open_inference_pb2.ModelInferRequest(model_name="tandem")
        tensor = request.inputs.add(name="image", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(jpeg(1))
        metadata = (("traceparent", traceparent(TRACES[0])),)
        await stub.ModelInfer(request, metadata=metadata)
    spans = collector.wait_for(
        lambda all_of: {"ModelInfer", "frame"} <= {each.name for each in all_of}
    )
    assert chain(spans, TRACES[0])[0] == ("ModelInfer", "tandem-gateway")
