"""What every service offers beside its own methods: health, reflection, metrics, announcement."""

import shutil
import subprocess
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from protos.tandem.v1 import detector_pb2
from tests.harness import ServiceProcess
from tests.streams import detect, frame, options

SERVICES = {
    "orchestrator": ["tandem.v1.Detector", "tandem.v1.Operations"],
    "edge.backbone": ["tandem.v1.Backbone"],
    "workstation.transformer": ["tandem.v1.Transformer"],
}
METRICS = {
    "tandem_frames": {"placement", "outcome"},
    "tandem_frame_latency_seconds": {"placement"},
    "tandem_stage_seconds": {"stage", "step"},
    "tandem_link_bytes": {"peer", "direction"},
    "tandem_in_flight_frames": set(),
    "tandem_placement_info": {"placement"},
    "tandem_node_up": {"node", "stage"},
    "tandem_power_watts": {"rail"},
    "tandem_energy_joules": {"rail"},
    "tandem_gpu_load_ratio": {"gpu"},
    "tandem_temperature_celsius": {"zone"},
    "tandem_memory_bytes": {"kind"},
}
# What a service has no occasion to observe has a name and no samples.
SAMPLED = {
    "orchestrator": {
        "tandem_frames",
        "tandem_frame_latency_seconds",
        "tandem_stage_seconds",
        "tandem_link_bytes",
        "tandem_in_flight_frames",
        "tandem_placement_info",
        "tandem_node_up",
        "tandem_memory_bytes",
    },
    "edge.backbone": {
        "tandem_frames",
        "tandem_frame_latency_seconds",
        "tandem_stage_seconds",
        "tandem_link_bytes",
        "tandem_in_flight_frames",
        "tandem_node_up",
        "tandem_memory_bytes",
    },
    "workstation.transformer": {
        "tandem_frames",
        "tandem_frame_latency_seconds",
        "tandem_stage_seconds",
        "tandem_link_bytes",
        "tandem_in_flight_frames",
        "tandem_node_up",
        "tandem_memory_bytes",
    },
}


def service_of(cluster, name) -> ServiceProcess:
    return cluster.orchestrator if name == "orchestrator" else cluster.stages[name]


def scrape(service: ServiceProcess) -> str:
    with urllib.request.urlopen(service.metrics_url, timeout=60) as response:
        return response.read().decode()


@pytest.fixture
async def served(cluster):
    """A cluster that has served frames, a bad one among them."""
    placement = detector_pb2.PLACEMENT_BACKBONE
    requests = [options(placement=placement), frame(0), frame(1, b"not an image"), frame(2)]
    await detect(cluster.address, requests)
    return cluster


@pytest.mark.parametrize("name", SERVICES)
async def test_health_says_serving_for_the_server_and_each_service(cluster, name):
    async with grpc.aio.insecure_channel(service_of(cluster, name).address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ["", *SERVICES[name]]:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("name", SERVICES)
async def test_reflection_lists_the_services(cluster, name):
    async with grpc.aio.insecure_channel(service_of(cluster, name).address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([request])):
            listed = {service.name for service in answer.list_services_response.service}
    assert listed >= {*SERVICES[name], "grpc.health.v1.Health"}


@pytest.mark.parametrize("name", SERVICES)
async def test_every_metric_of_the_contract_is_served(served, name):
    text = scrape(service_of(served, name))
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) >= set(METRICS)
    for metric, labels in METRICS.items():
        samples = families[metric].samples
        assert bool(samples) or metric not in SAMPLED[name], metric
        for sample in samples:
            assert set(sample.labels) - {"le"} == labels


async def test_the_orchestrator_counts_frames_by_outcome(served):
    text = scrape(served.orchestrator)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    counts = {
        sample.labels["outcome"]: sample.value
        for sample in families["tandem_frames"].samples
        if sample.name == "tandem_frames_total" and sample.labels["placement"] == "backbone"
    }
    assert counts["detections"] == 2 * counts["error"] > 0
    steps = {
        (sample.labels["stage"], sample.labels["step"])
        for name in ("edge.backbone", "workstation.transformer")
        for family in text_string_to_metric_families(scrape(served.stages[name]))
        if family.name == "tandem_stage_seconds"
        for sample in family.samples
    }
    assert steps >= {
        ("backbone", step) for step in ("decode", "preprocess", "queue", "execute", "encode")
    }
    assert steps >= {
        ("transformer", step)
        for step in ("decode", "preprocess", "queue", "execute", "postprocess", "transfer")
    }


async def test_a_failed_frame_is_logged_with_its_session_and_id(served):
    events = served.orchestrator.log_events()
    session = [event["session"] for event in events if event["event"] == "frame failed"][-1]
    opened = {event["session"] for event in events if event["event"] == "session opened"}
    assert session in opened
    failed = [
        event
        for service in (served.orchestrator, served.stages["edge.backbone"])
        for event in service.log_events()
        if event["event"] == "frame failed" and event["session"] == session
    ]
    assert [event["frame"] for event in failed] == [1, 1]
    assert all("JPEG" in event["error"] for event in failed)


@pytest.mark.parametrize("name", SERVICES)
async def test_promtool_finds_nothing(served, name):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    text = scrape(service_of(served, name))
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_service_announces_itself_in_one_line(cluster):
    backbone = cluster.stages["edge.backbone"].announcement
    assert set(backbone) == {"service", "node", "address", "metrics", "pid"}
    assert (backbone["service"], backbone["node"]) == ("backbone", "edge")
    assert backbone["pid"] == cluster.stages["edge.backbone"].process.pid
    assert cluster.orchestrator.announcement["service"] == "orchestrator"
