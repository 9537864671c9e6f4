"""The command and the addresses that people give it."""

import pytest

from tests.harness import ServiceProcess
from tests.integration.tandem.commands import json_of, tandem, up
from tests.integration.test_addresses import NO_EXCEPTIONS, PROXIES, needs_ipv6

pytestmark = pytest.mark.slow

NODES = '{"attic": {"backbone": "127.0.0.1:1", "transformer": "127.0.0.1:1"}}'


@pytest.fixture(scope="module")
def orchestrator(tmp_path_factory):
    listening = ("--port", "0", "--metrics-port", "0")
    running = ServiceProcess("services.orchestrator", "--nodes", NODES, *listening)
    running.announcement  # noqa: B018 - waits until it is healthy
    yield running
    running.close()


def test_any_nodes_and_whatever_proxies_the_environment_names(orchestrator):
    ran = tandem("status", "--server", orchestrator.address, **PROXIES, **NO_EXCEPTIONS)
    assert ran.returncode == 0, ran.stderr
    assert "attic" in ran.stdout
    told = json_of(tandem("status", "--server", orchestrator.address, "--json"))
    assert "backbone=attic,transformer=attic" in [each["placement"] for each in told["placements"]]


def test_a_name_is_the_systems_to_resolve(orchestrator):
    """gRPC's own resolver does not know `127.1`; the system's does, as it does mDNS."""
    port = orchestrator.address.rpartition(":")[2]
    assert tandem("status", "--server", f"127.1:{port}").returncode == 0


def test_a_name_that_is_not_found_is_told_as_that():
    ran = tandem("status", "--server", "tx2.invalid:50050")
    assert ran.returncode == 1
    assert ran.stderr == "tandem: the name tx2.invalid is not found (server tx2.invalid:50050)\n"


def test_what_speaks_no_grpc_is_told_as_that(orchestrator):
    metrics = orchestrator.metrics_url.removeprefix("http://").partition("/")[0]
    ran = tandem("status", "--server", metrics)
    assert ran.returncode == 1
    assert ran.stderr == f"tandem: what answers at {metrics} is no Tandem orchestrator\n"


def test_a_unix_socket(tmp_path):
    address = f"unix:{tmp_path}/tandem"
    listening = ("--host", address, "--metrics-port", "0")
    running = ServiceProcess("services.orchestrator", "--nodes", NODES, *listening)
    try:
        assert running.address == address
        assert tandem("placement", "--server", address).returncode == 0
    finally:
        running.close()
    ran = tandem("placement", "--server", f"unix:{tmp_path}/nothing")
    assert ran.stderr == f"tandem: no Tandem orchestrator answers at unix:{tmp_path}/nothing\n"


@needs_ipv6
def test_up_on_ipv6_announces_what_can_be_used():
    with up("--host", "[::1]") as (_, told):
        address = told["orchestrator"]["address"]
        assert address.startswith("[::1]:")
        port = address.rpartition(":")[2]
        for spelling in (address, f"::1:{port}", f"ipv6:{address}"):
            assert tandem("placement", "--server", spelling).returncode == 0


def test_up_at_an_address_of_another_machine():
    there = ("up", "--host", "192.0.2.1", "--bundle", "tests/data/toy-bundle")
    ran = tandem(*there)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("tandem: other machines could reach 192.0.2.1 without TLS")
    ran = tandem(*there, "--insecure")
    assert ran.returncode == 1
    assert "192.0.2.1 is no address of this machine" in ran.stderr
