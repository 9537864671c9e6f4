"""The health check of the containers, asked of real servers."""

import socket
import subprocess
import sys
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from common.server.probe import fault_of
from tests.harness import ROOT, clean_environment


@pytest.fixture
def server():
    """A gRPC server that has nothing but health; its address and its servicer."""
    running = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield f"127.0.0.1:{port}", servicer
    running.stop(None).wait()


def test_a_serving_server_has_no_fault(server):
    address, _ = server
    assert fault_of(address) == ""


def test_a_draining_server_is_told_by_its_status(server):
    address, servicer = server
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert fault_of(address) == "its health is NOT_SERVING"


def probe(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "common.server.probe", *arguments],
        cwd=str(ROOT),
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_exits_0_where_a_server_serves(server):
    address, _ = server
    assert probe(address).returncode == 0


def test_the_command_says_what_is_wrong_and_exits_1():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        ran = probe(address)
    assert ran.returncode == 1
    assert ran.stderr.startswith(address + ": ")
    assert len(ran.stderr.splitlines()) == 1


def test_the_command_asks_for_an_address():
    assert probe().returncode == 2
