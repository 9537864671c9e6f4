"""`python -m common.server.probe HOST:PORT` exits with 0 if the server there is serving.

Health checks of containers run it inside the container. It asks `grpc.health.v1` and needs no
package that the services do not need anyway.
"""

from __future__ import annotations

import sys
from typing import Any, Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.domain.address import parse_address
from common.domain.errors import InvalidInputError
from common.domain.redaction import fit_to_show
from common.wire.connections import DIRECT_OPTIONS

TIMEOUT_SECONDS = 5.0


def fault_of(address: str, timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """Ask a server, as a whole, for its health.

    Args:
        address: its host:port.
        timeout_seconds: for connecting and answering together.

    Returns:
        What is wrong, in a few words; empty when it is serving.

    Raises:
        InvalidInputError: that is no address.
    """
    with grpc.insecure_channel(parse_address(address).target, DIRECT_OPTIONS) as channel:
        # Its published types leave out the calls.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds)
        except grpc.RpcError as error:
            return str(error.details() or error.code().name)
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return "its health is " + health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def main(arguments: Sequence[str]) -> int:
    """Probe an address; returns 0 if it is serving, 1 if it is not, 2 for wrong arguments."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m common.server.probe HOST:PORT\n")
        return 2
    try:
        fault = fault_of(arguments[0])
    except InvalidInputError as error:
        sys.stderr.write(f"{fit_to_show(str(error))}\n")
        return 2
    if fault:
        sys.stderr.write(f"{fit_to_show(f'{arguments[0]}: {fault}')}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
