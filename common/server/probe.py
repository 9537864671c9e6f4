"""`python -m common.server.probe HOST:PORT` exits with 0 if the server there is serving.

Health checks of containers run it inside the container. It asks `grpc.health.v1` and needs no
package that the services do not need anyway. Where the environment holds the service's own settings
of TLS, it connects by them, and expects the service itself to answer.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.domain.address import parse_address
from common.domain.errors import InvalidInputError, TandemError
from common.security.identity import Identity
from common.wire.connections import DIRECT_OPTIONS
from common.wire.errors import connection_fault

TIMEOUT_SECONDS = 5.0


class ProbeTls(NamedTuple):
    """By what to connect to a server with TLS.

    Attributes:
        certificate: PEM file of a monitor, or of the service itself.
        key: its private key.
        peers_ca: the authorities of services.
        server: whom the server has to prove to be; whoever the certificate is of, where that is a
            service, or any server at that address, if left out.
    """

    certificate: Path
    key: Path
    peers_ca: Path
    server: Optional[Identity] = None


def fault_of(
    address: str, timeout_seconds: float = TIMEOUT_SECONDS, tls: Optional[ProbeTls] = None
) -> str:
    """Ask a server, as a whole, for its health.

    Args:
        address: its host:port.
        timeout_seconds: for connecting and answering together.
        tls: by what to connect; None: without encryption.

    Returns:
        What is wrong, in a few words; empty when it is serving.

    Raises:
        InvalidInputError: that is no address.
        ConfigurationError: a file of TLS cannot be read, or makes no sense.
    """
    with _channel(parse_address(address).target, tls) as channel:
        # Its published types leave out the calls.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds)
        except grpc.RpcError as error:
            fault = connection_fault(error.code(), error.details())
            return fault.value if fault else str(error.details() or error.code().name)
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return "its health is " + health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def _channel(target: str, tls: Optional[ProbeTls]) -> grpc.Channel:
    if tls is None:
        return grpc.insecure_channel(target, DIRECT_OPTIONS)
    # Only now, since reading certificates takes a library that is slow to import.
    from common.security.tls import TlsFiles, TlsPaths, channel_credentials

    material = TlsFiles(TlsPaths(tls.peers_ca, tls.certificate, tls.key)).material
    own = None if material.certificate is None else material.certificate.identity
    server = tls.server or (own if own is not None and own.role.is_peer else None)
    name = [("grpc.ssl_target_name_override", server.server_name)] if server else []
    return grpc.secure_channel(target, channel_credentials(material), [*DIRECT_OPTIONS, *name])


def main(arguments: Sequence[str]) -> int:
    """Probe an address; returns 0 if it is serving, 1 if it is not, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m common.server.probe", description="Ask a server for its health."
    )
    environment = os.environ
    parser.add_argument("address", metavar="HOST:PORT")
    for name in ("certificate", "key", "peers-ca"):
        variable = "TANDEM_TLS_" + name.upper().replace("-", "_")
        parser.add_argument(
            f"--tls-{name}",
            type=Path,
            metavar="FILE",
            default=environment.get(variable) or None,
            help=f"as of a service; {variable} if left out",
        )
    parser.add_argument("--server", metavar="ROLE/NAME", help="whom the server has to prove to be")
    given = parser.parse_args(arguments)
    try:
        fault = fault_of(given.address, tls=_tls(given))
    except TandemError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if fault:
        sys.stderr.write(f"{given.address}: {fault}\n")
        return 1
    return 0


def _tls(given: argparse.Namespace) -> Optional[ProbeTls]:
    files = (given.tls_certificate, given.tls_key, given.tls_peers_ca)
    if not any(files):
        return None
    if not all(files):
        raise InvalidInputError("TLS needs --tls-certificate, --tls-key and --tls-peers-ca")
    return ProbeTls(*files, server=Identity.parse(given.server) if given.server else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
