"""IPv6, Unix sockets, the system's resolver, no proxies: between real services. Also on 3.8."""

import json
import socket
import subprocess
import sys

import pytest

from tests.harness import ROOT, TOY_BUNDLE, Cluster, Place, ServiceProcess, clean_environment
from tests.streams import detect, frame, options, stages_up, status

# Where no proxy is: whoever asks one there fails. Nothing says that this machine needs none.
PROXIES = {
    name: "http://127.0.0.1:9"
    for name in (
        *("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"),
        *("grpc_proxy", "ALL_PROXY", "all_proxy"),
    )
}
NO_EXCEPTIONS = {name: "" for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy")}
STAGE = ("--node", "edge", "--bundle", str(TOY_BUNDLE))


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def probe(address, **environment):
    """The exit code and the words of `python -m common.server.probe`."""
    ran = subprocess.run(
        [sys.executable, "-m", "common.server.probe", address],
        cwd=str(ROOT),
        env={**clean_environment(), **environment},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    return ran.returncode, ran.stderr


def refused(module, *arguments):
    """What a service that cannot start says; one sentence, and exit 2."""
    process = ServiceProcess(module, *arguments)
    try:
        assert process.process.wait(60) == 2, process.log_text()
        (line,) = process.log_text().splitlines()
    finally:
        process.close()
    assert "GRPC_VERBOSITY" not in line
    return line


async def test_no_part_takes_a_proxy_to_another(monkeypatch):
    for name, value in {**PROXIES, **NO_EXCEPTIONS}.items():
        monkeypatch.setenv(name, value)
    running = Cluster()
    # The tests' own clients are none of its parts.
    monkeypatch.undo()
    try:
        assert stages_up(await status(running.address)) == 4
        responses = await detect(running.address, [options(), *(frame(each) for each in range(3))])
        assert all(each.WhichOneof("result") == "detections" for each in responses)
        assert probe(running.address, **PROXIES, **NO_EXCEPTIONS) == (0, "")
    finally:
        running.close()


@needs_ipv6
async def test_all_parts_on_ipv6():
    here = Place("::1")
    running = Cluster(
        places={"edge": here, "workstation": Place("[::1]")},
        orchestrator_arguments=("--host", "ipv6:[::1]", "--placement", "backbone"),
    )
    try:
        assert running.address.startswith("[::1]:")
        assert running.orchestrator.metrics_url.startswith("http://[::1]:")
        # Announced addresses can be used as they are.
        assert running.orchestrator.metric("tandem_node_up") == 4
        responses = await detect(running.address, [options(), frame(1)])
        assert [each.WhichOneof("result") for each in responses] == ["detections"]
        port = running.address.rpartition(":")[2]
        for spelling in (f"[::1]:{port}", f"ipv6:[::1]:{port}", f"::1:{port}"):
            assert probe(spelling) == (0, "")
        assert probe(f"127.0.0.1:{port}")[0] == 1
    finally:
        running.close()


async def test_all_parts_on_unix_sockets(tmp_path):
    """One stage of each kind, and the orchestrator."""
    sockets = {name: f"unix:{tmp_path}/{name}" for name in ("transformer", "backbone", "all")}
    nodes = json.dumps(
        {"edge": {"backbone": sockets["backbone"], "transformer": sockets["transformer"]}}
    )
    transformers = json.dumps({"edge": sockets["transformer"]})
    started = []
    try:
        for name, module, arguments in (
            ("transformer", "services.transformer", STAGE),
            ("backbone", "services.backbone", (*STAGE, "--transformers", transformers)),
            ("all", "services.orchestrator", ("--nodes", nodes)),
        ):
            place = ("--host", sockets[name], "--metrics-port", "0")
            started.append(ServiceProcess(module, *arguments, *place))
            # Each waits for those that it calls to be healthy.
            assert started[-1].address == sockets[name]
        # Metrics have no socket of their own kind.
        assert started[2].metric("tandem_node_up", node="edge") == 2
        responses = await detect(sockets["all"], [options(), frame(1)])
        assert [each.WhichOneof("result") for each in responses] == ["detections"]
        assert probe(f"unix://{tmp_path}/all") == (0, "")
        taken = refused("services.transformer", *STAGE, "--host", sockets["all"])
        assert f"{sockets['all']} is in use" in taken
        assert probe(sockets["all"]) == (0, "")
    finally:
        for each in started:
            each.close()


@pytest.fixture(scope="module")
def stage():
    running = ServiceProcess("services.transformer", *STAGE, "--port", "0", "--metrics-port", "0")
    running.announcement  # noqa: B018 - waits until it is healthy
    yield running
    running.close()


def test_names_are_the_systems_to_resolve(stage):
    """`127.1` is a name that the C library knows how to read, and gRPC's own resolver does not."""
    port = stage.address.rpartition(":")[2]
    environment = {"GRPC_DNS_RESOLVER": "native"}
    assert probe(f"127.1:{port}") == (0, "")
    assert probe(f"127.1:{port}", **environment) == (0, "")
    assert probe(f"127.1:{port}", GRPC_DNS_RESOLVER="ares")[0] == 1
    code, words = probe("no-such-machine.invalid:50050")
    assert code == 1
    assert "getaddrinfo" in words


def test_the_port_that_is_in_use_is_named(stage):
    port = stage.address.rpartition(":")[2]
    metrics_port = stage.metrics_url.rpartition(":")[2].partition("/")[0]
    free = ("--port", "0", "--metrics-port", "0")
    told = refused("services.transformer", *STAGE, *free, "--port", port)
    assert told.endswith(f"127.0.0.1:{port}: port {port} of 127.0.0.1 is in use by another program")
    told = refused("services.transformer", *STAGE, *free, "--metrics-port", metrics_port)
    assert f"metrics: cannot listen on 127.0.0.1:{metrics_port}: port {metrics_port} of" in told
    told = refused(
        "services.transformer", *STAGE, *free, "--port", port, "--host", "0.0.0.0", "--insecure"
    )
    assert f"port {port} of 0.0.0.0 is in use" in told


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.1", "192.0.2.1 is no address of this machine"),
        ("no-such-machine.invalid", "cannot listen on no-such-machine.invalid:"),
        ("unix:/no/such/folder/s", "cannot listen on unix:/no/such/folder/s: No such file"),
        ("[::1]:50052", "the host '[::1]:50052' is an address and a port"),
    ],
)
def test_a_host_that_cannot_be_listened_on_is_told(host, words):
    told = refused("services.transformer", *STAGE, "--host", host, "--insecure")
    assert words in told


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])
def test_others_are_not_served_without_tls_unless_somebody_says_so(host):
    told = refused("services.transformer", *STAGE, "--host", host, "--port", "0")
    assert f"other machines could reach {host} without TLS" in told


def test_a_star_does_not_serve_others_without_tls():
    """The fault: it resolves to this machine, and gRPC listens on all addresses for it."""
    told = refused("services.transformer", *STAGE, "--host", "*", "--port", "0")
    assert "the host '*' is no name or address" in told
