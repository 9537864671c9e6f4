"""Frames' traces, over all services, as a collector receives them. Runs on Python 3.8."""

import re
import urllib.request
from collections import Counter

import grpc
import pytest

pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is not on this machine")

from protos.tandem.v1 import detector_pb2, detector_pb2_grpc, tensor_pb2
from tests.collector import AT_ONCE, grpc_collector
from tests.harness import Cluster
from tests.streams import detect, frame, options
from tests.videos import encoded, moving_pictures

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c"
THIRD_TRACE = "5b8efff798038103d269b633813fc60c"
SERVER, CLIENT = 2, 3
ERROR = 2
OPENING = options(placement=detector_pb2.PLACEMENT_BACKBONE, codec=tensor_pb2.CODEC_INT8)
# Of one frame: its span and a call of the orchestrator's, the two stages, a call of the backbone's.
NAMES = Counter(
    {
        "frame": 1,
        "transfer": 2,
        "backbone": 1,
        "transformer": 1,
        "decode": 2,
        "preprocess": 2,
        "queue": 2,
        "execute": 2,
        "encode": 1,
        "postprocess": 1,
    }
)


@pytest.fixture(scope="module")
def collector():
    with grpc_collector() as running:
        yield running


@pytest.fixture(scope="module")
def cluster(collector):
    """Two nodes and an orchestrator that export to the collector."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in collector.environment().items():
            patch.setenv(name, value)
        running = Cluster()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def nothing_received(collector):
    collector.spans.clear()


async def detect_traced(address, requests, **metadata):
    """The answers to a client that sends this metadata."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = detector_pb2_grpc.DetectorStub(channel).Detect(
            iter(requests), metadata=tuple(metadata.items())
        )
        return [each async for each in call]


def with_parent(request, traceparent):
    request.frame.traceparent = traceparent
    return request


def of_frame(spans, trace_id):
    return [each for each in spans if each.trace_id == trace_id]


def is_whole(spans):
    return Counter(each.name for each in spans) == NAMES


def has(**counts):
    def holds(spans):
        names = Counter(each.name for each in spans)
        return all(names[name] == count for name, count in counts.items())

    return holds


def child(spans, parent, name):
    (found,) = [each for each in spans if each.parent_id == parent.span_id and each.name == name]
    return found


async def test_a_frame_is_one_tree_over_all_services(cluster, collector):
    metadata = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "their=own"}
    (answer,) = await detect_traced(cluster.address, [OPENING, frame(7)], **metadata)
    spans = collector.wait_for(is_whole)
    assert {each.trace_id for each in spans} == {TRACE}

    (root,) = [each for each in spans if each.parent_id == PARENT]
    to_backbone = child(spans, root, "transfer")
    backbone = child(spans, to_backbone, "backbone")
    to_transformer = child(spans, backbone, "transfer")
    transformer = child(spans, to_transformer, "transformer")
    chain = (root, to_backbone, backbone, to_transformer, transformer)
    assert [each.service for each in chain] == [
        *("tandem-orchestrator", "tandem-orchestrator"),
        *("tandem-backbone", "tandem-backbone", "tandem-transformer"),
    ]
    assert [each.kind for each in chain] == [SERVER, CLIENT, SERVER, CLIENT, SERVER]
    by_id = {each.span_id: each for each in spans}
    for span in spans:
        assert span is root or span.lies_within(by_id[span.parent_id]), span

    # Each step lasts as long as the answer's own timing says.
    for stage, told in (
        (backbone, answer.timing.backbone),
        (transformer, answer.timing.transformer),
    ):
        own = [each for each in spans if each.parent_id == stage.span_id and each.kind == 1]
        assert {each.name for each in own} <= set(NAMES)
        for step in own:
            seconds = getattr(told, f"{step.name}_seconds")
            assert (step.end - step.start) / 1e9 == pytest.approx(seconds, abs=1e-3)
        assert (stage.end - stage.start) / 1e9 >= told.held_seconds - 1e-3

    assert root.attributes["tandem.placement"] == "backbone"
    assert root.attributes["tandem.outcome"] == "detections"
    assert root.attributes["tandem.detections"] == len(answer.detections.detections)
    for span in (root, backbone, transformer):
        assert span.frame_id == 7
        assert span.attributes["tandem.session"] == root.attributes["tandem.session"]
    assert (backbone.attributes["tandem.node"], transformer.attributes["tandem.node"]) == (
        *("edge", "workstation"),
    )
    assert backbone.attributes["tandem.request_bytes"] == answer.timing.backbone.request_bytes
    features = answer.timing.transformer.request_bytes
    for span in (to_transformer, transformer):
        assert span.attributes["tandem.request_bytes"] == features
    assert backbone.attributes["tandem.codec"] == transformer.attributes["tandem.codec"] == "int8"


async def test_frames_of_a_stream_without_a_parent_have_a_trace_each(cluster, collector):
    await detect_traced(cluster.address, [OPENING, frame(0), frame(1)])
    spans = collector.wait_for(lambda all_of: len(all_of) == 2 * sum(NAMES.values()))
    roots = [each for each in spans if not each.parent_id]
    assert [each.name for each in roots] == ["frame"] * 2
    assert len({each.trace_id for each in roots}) == 2
    for root in roots:
        assert is_whole(of_frame(spans, root.trace_id))


async def test_a_frames_own_parent_goes_over_that_of_its_stream(cluster, collector):
    own = f"00-{OTHER_TRACE}-{PARENT}-01"
    damaged = "00-nonsense"
    requests = [OPENING, with_parent(frame(0), own), with_parent(frame(1), damaged), frame(2)]
    answers = await detect_traced(cluster.address, requests, traceparent=f"00-{TRACE}-{PARENT}-01")
    assert [each.WhichOneof("result") for each in answers] == ["detections"] * 3
    spans = collector.wait_for(lambda all_of: len(all_of) == 3 * sum(NAMES.values()))
    traces = {each.frame_id: each.trace_id for each in spans if each.name == "transformer"}
    assert traces == {0: OTHER_TRACE, 1: TRACE, 2: TRACE}


@pytest.mark.parametrize(
    "metadata",
    [{"traceparent": f"00-{TRACE}-{PARENT}-00"}, {"tandem-traced-frames": "marked"}],
    ids=["a parent that is not sampled", "a sender that traces other frames"],
)
async def test_what_is_not_sampled_is_exported_by_nobody(cluster, collector, metadata):
    sampled = with_parent(frame(9), f"00-{OTHER_TRACE}-{PARENT}-01")
    frames = [frame(number) for number in range(9)]
    await detect_traced(cluster.address, [OPENING, *frames, sampled], **metadata)
    spans = collector.wait_for(lambda all_of: is_whole(of_frame(all_of, OTHER_TRACE)))
    # That of the last frame came, so that those of the others would have come by now.
    assert {each.trace_id for each in spans} == {OTHER_TRACE}


async def test_an_access_unit_that_is_sampled_is_traced_like_a_picture(cluster, collector):
    video = detector_pb2.VideoFormat(codec=detector_pb2.VIDEO_CODEC_H264)
    opening = options(
        placement=detector_pb2.PLACEMENT_BACKBONE, codec=tensor_pb2.CODEC_INT8, video=video
    )
    units = [
        detector_pb2.DetectRequest(
            frame=detector_pb2.Frame(
                frame_id=number,
                encoded_video=detector_pb2.AccessUnit(data=each.data, key_frame=each.key_frame),
            )
        )
        for number, each in enumerate(encoded(moving_pictures(4)))
    ]
    with_parent(units[3], f"00-{OTHER_TRACE}-{PARENT}-01")
    marked = {"tandem-traced-frames": "marked"}
    answers = await detect_traced(cluster.address, [opening, *units], **marked)
    assert [each.WhichOneof("result") for each in answers] == ["detections"] * 4
    spans = collector.wait_for(is_whole)
    assert {each.trace_id for each in spans} == {OTHER_TRACE}
    (served,) = [each for each in spans if each.name == "backbone"]
    assert served.frame_id == 3
    assert served.attributes["tandem.request_bytes"] == len(units[3].frame.encoded_video.data)


async def test_an_error_is_a_status_on_its_way_and_nowhere_else(cluster, collector):
    parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    requests = [OPENING, frame(0, b"no picture"), frame(1)]
    await detect_traced(cluster.address, requests, **parent)
    spans = collector.wait_for(has(frame=2, backbone=2, transformer=1))
    failed = {each.name: each for each in spans if each.status == ERROR}
    assert set(failed) == {"frame", "transfer", "backbone"}
    for span in failed.values():
        assert span.attributes["error.type"] == "INVALID_ARGUMENT"
        assert "neither JPEG nor PNG" in span.error
    assert failed["frame"].attributes["tandem.outcome"] == "error"


async def test_metrics_and_logs_lead_to_the_trace(cluster, collector):
    parent = {"traceparent": f"00-{THIRD_TRACE}-{PARENT}-01"}
    await detect_traced(cluster.address, [OPENING, frame(0), frame(1, b"no picture")], **parent)
    spans = collector.wait_for(has(frame=2, backbone=2))
    ids = {each.span_id for each in spans if each.name == "frame"}

    url = cluster.orchestrator.metrics_url
    wanted = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text"})
    with urllib.request.urlopen(wanted) as page:
        told = page.read().decode()
    found = re.search(
        r"^tandem_frame_latency_seconds_bucket\{.*\} \S+ "
        rf"# \{{(?=.*trace_id=\"{THIRD_TRACE}\")(?=.*span_id=\"(\w+)\")",
        told,
        re.MULTILINE,
    )
    assert found
    assert found[1] in ids
    with urllib.request.urlopen(url) as page:
        plain = page.read().decode()
    # Plain Prometheus text has no exemplars, and its comments begin a line.
    assert not [line for line in plain.splitlines() if "#" in line[1:]]

    for service in (cluster.orchestrator, cluster.stages["edge.backbone"]):
        (event,) = [
            each
            for each in service.log_events()
            if each["event"] == "frame failed" and each.get("trace_id") == THIRD_TRACE
        ]
        assert event["frame"] == 1
        assert event["span_id"] in {each.span_id for each in spans}


@pytest.fixture
def nobody():
    """An endpoint where no collector answers."""
    with grpc_collector() as gone:
        endpoint = gone.endpoint
    return endpoint


async def test_services_go_on_without_a_collector(nobody, monkeypatch):
    for name, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": nobody, **AT_ONCE}.items():
        monkeypatch.setenv(name, value)
    running = Cluster(nodes=("edge",))
    try:
        answers = await detect(running.address, [options(), *map(frame, range(40))])
        assert [each.WhichOneof("result") for each in answers] == ["detections"] * 40
        backbone = running.stages["edge.backbone"]
        assert backbone.terminate() == 0
        told = [each for each in backbone.log_events() if "export" in str(each["event"])]
        assert 1 <= len(told) <= 3
        assert told[0]["level"] == "warning"
    finally:
        running.close()
