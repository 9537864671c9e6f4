"""Services start beside the variables that Kubernetes sets for every service of a namespace."""

import itertools

from tests.harness import Cluster
from tests.streams import detect, frame, options

# As in deploy/kubernetes, and as somebody may call them.
NAMES = ("orchestrator", "backbone", "transformer", "gateway", "edge", "tandem", "tandem-metrics")
PORTS = (50050, 50051, 50052, 9150)


def service_links(name, port):
    """What is set for a service, with `enableServiceLinks`, which is on by default."""
    start, address = name.upper().replace("-", "_"), "10.43.0.17"
    part = f"{start}_PORT_{port}_TCP"
    return {
        f"{start}_SERVICE_HOST": address,
        f"{start}_SERVICE_PORT": str(port),
        f"{start}_SERVICE_PORT_GRPC": str(port),
        f"{start}_PORT": f"tcp://{address}:{port}",
        part: f"tcp://{address}:{port}",
        f"{part}_PROTO": "tcp",
        f"{part}_PORT": str(port),
        f"{part}_ADDR": address,
    }


async def test_service_links_change_nothing(monkeypatch):
    for name, port in itertools.product(NAMES, PORTS):
        for variable, value in service_links(name, port).items():
            monkeypatch.setenv(variable, value)
    cluster = Cluster(nodes=("workstation",))
    try:
        answers = await detect(cluster.address, [options(), frame(1)])
    finally:
        cluster.close()
    assert [each.WhichOneof("result") for each in answers] == ["detections"]
