"""Traces that begin in a client: the command's, and those of a program that has its own."""

import secrets
import subprocess
import sys

import pytest

from tandem import DetectorClient, TracedFrame
from tests.collector import grpc_collector, http_collector
from tests.forked import ROOT
from tests.harness import Cluster, clean_environment
from tests.integration.tandem.commands import tandem
from tests.unit.tandem.factories import encoded

CLIENT = 3
# A user's program, which has set up OpenTelemetry as its documentation says.
PROGRAM = """
import asyncio, sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from tandem import DetectorClient

provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(sys.argv[2] + "/v1/traces")))
trace.set_tracer_provider(provider)

async def main():
    picture = open(sys.argv[3], "rb").read()
    async with DetectorClient(sys.argv[1]) as client:
        with trace.get_tracer("shop").start_as_current_span("count"):
            async for _ in client.detect([picture, b"no picture"], placement="full"):
                pass
        async for _ in client.detect([picture], placement="workstation"):
            pass

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def collector():
    with grpc_collector() as running:
        yield running


@pytest.fixture(scope="module")
def cluster(collector):
    """Services that export to the collector."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in collector.environment().items():
            patch.setenv(name, value)
        running = Cluster()
    yield running
    running.close()


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(".jpg"))
    return path


def named(spans, name, traces=None):
    """The spans of this name; of these traces alone, as an earlier test's may still come."""
    return [e for e in spans if e.name == name and (traces is None or e.trace_id in traces)]


def test_the_command_begins_a_trace_for_each_frame(cluster, collector, picture):
    detect = ("detect", picture, "--server", cluster.address, "--placement", "backbone", "--json")
    assert tandem(*detect, **collector.environment()).returncode == 0
    spans = collector.wait_for(lambda all_of: named(all_of, "detect") and named(all_of, "frame"))
    (root,) = named(spans, "detect")
    assert (root.service, root.kind, root.parent_id) == ("tandem-client", CLIENT, "")
    assert root.attributes["tandem.placement"] == "backbone"
    assert root.attributes["tandem.outcome"] == "detections"
    (served,) = named(spans, "frame")
    assert (served.trace_id, served.parent_id) == (root.trace_id, root.span_id)
    assert served.lies_within(root)


def test_without_a_collector_the_command_says_so_and_succeeds(cluster, picture):
    with grpc_collector() as gone:
        environment = gone.environment()
    detect = ("detect", picture, "--server", cluster.address, "--json")
    finished = tandem(*detect, **environment)
    assert finished.returncode == 0
    lines = finished.stderr.splitlines()
    assert all(line.startswith("tandem: ") for line in lines), finished.stderr
    assert len(lines) <= 2


def test_frames_are_part_of_the_span_of_a_program_that_has_its_own(cluster, collector, picture):
    with http_collector() as shop:
        subprocess.run(
            [sys.executable, "-c", PROGRAM, cluster.address, shop.endpoint, str(picture)],
            cwd=ROOT,
            env=clean_environment(),
            check=True,
        )
        own = shop.wait_for(lambda all_of: len(all_of) == 4)
    traces = {each.trace_id for each in own}
    served = collector.wait_for(lambda all_of: len(named(all_of, "frame", traces)) == 3)
    (count,) = named(own, "count")
    inside = [each for each in named(own, "detect") if each.parent_id == count.span_id]
    (alone,) = [each for each in named(own, "detect") if not each.parent_id]
    assert {each.service for each in own} == {"shop"}
    assert {each.trace_id for each in inside} == {count.trace_id}
    assert [each.attributes["tandem.outcome"] for each in inside] == ["detections", "error"]
    assert "neither JPEG nor PNG" in inside[1].error
    parents = {each.parent_id: each for each in named(served, "frame", traces)}
    assert set(parents) == {each.span_id for each in (*inside, alone)}
    for each in (*inside, alone):
        assert parents[each.span_id].trace_id == each.trace_id


async def test_each_frame_may_be_part_of_another_trace(cluster, collector):
    traces = [secrets.token_hex(16), secrets.token_hex(16)]
    frames = [TracedFrame(encoded(".jpg"), f"00-{each}-00f067aa0ba902b7-01") for each in traces]
    # This process itself traces nothing, and passes on what it is given.
    async with DetectorClient(cluster.address) as client:
        results = [each async for each in client.detect(frames)]
    assert [each.error for each in results] == [None, None]
    served = collector.wait_for(lambda all_of: len(named(all_of, "frame", traces)) == 2)
    frames_of = {each.trace_id: each for each in named(served, "frame", traces)}
    assert [frames_of[each].frame_id for each in traces] == [0, 1]
    assert {each.parent_id for each in frames_of.values()} == {"00f067aa0ba902b7"}
