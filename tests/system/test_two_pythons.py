"""An edge on Python 3.8 and a workstation on 3.11 make one system."""

import json
import subprocess
import sys

import pytest

from protos.tandem.v1 import detector_pb2
from tests.harness import ROOT, TOY_BUNDLE, ServiceProcess
from tests.streams import detect, frame, options

WORKSTATION_PYTHON = ROOT / ".venv/bin/python"
PORTS = ("--port", "0", "--metrics-port", "0")


@pytest.mark.skipif(sys.version_info[:2] != (3, 8), reason="runs in `make test-edge`, on 3.8")
@pytest.mark.parametrize("placement", ["BACKBONE", "TRANSFORMER"])
async def test_a_stream_between_the_edges_python_and_the_workstations(placement):
    version = subprocess.run(
        [str(WORKSTATION_PYTHON), "-c", "import sys; print(sys.version_info[:2])"],
        capture_output=True,
        text=True,
    )
    assert version.stdout.strip() == "(3, 11)"
    pythons = {"edge": sys.executable, "workstation": str(WORKSTATION_PYTHON)}
    bundle = ("--bundle", str(TOY_BUNDLE))
    services = {}
    try:
        for node, python in pythons.items():
            arguments = (*bundle, "--node", node, *PORTS)
            services[node, "transformer"] = ServiceProcess(
                "services.transformer", *arguments, python=python
            )
        transformers = json.dumps({node: services[node, "transformer"].address for node in pythons})
        for node, python in pythons.items():
            arguments = (*bundle, "--node", node, *PORTS, "--transformers", transformers)
            services[node, "backbone"] = ServiceProcess(
                "services.backbone", *arguments, python=python
            )
        nodes = {
            node: {stage: services[node, stage].address for stage in ("backbone", "transformer")}
            for node in pythons
        }
        orchestrator = services["", "orchestrator"] = ServiceProcess(
            "services.orchestrator", "--nodes", json.dumps(nodes), *PORTS
        )
        wanted = detector_pb2.Placement.Value(f"PLACEMENT_{placement}")
        requests = [options(placement=wanted), *(frame(number) for number in range(20))]
        responses = await detect(orchestrator.address, requests)
    finally:
        for service in services.values():
            service.close()
    assert [each.frame_id for each in responses] == list(range(20))
    assert {each.WhichOneof("result") for each in responses} == {"detections"}
    assert {each.placement for each in responses} == {wanted}
