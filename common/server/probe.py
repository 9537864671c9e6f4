"""`python -m common.server.probe HOST:PORT` exits with 0 if the server there is serving.

Health checks of containers run it inside the container. It asks `grpc.health.v1` and needs no
package that the services do not need anyway. Where the service's variables set TLS up
(`TANDEM_TLS_CERTIFICATE` and so on), it shows the service's own certificate, and expects that same
service to answer.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Optional, Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.domain.address import parse_address
from common.domain.errors import ConfigurationError, InvalidInputError
from common.domain.redaction import fit_to_show
from common.security.tls import TlsFiles, TlsMaterial, TlsPaths, channel_credentials
from common.server.health import REASON_KEY
from common.wire.connections import DIRECT_OPTIONS

TIMEOUT_SECONDS = 5.0


def fault_of(
    address: str,
    timeout_seconds: float = TIMEOUT_SECONDS,
    material: Optional[TlsMaterial] = None,
) -> str:
    """Ask a server, as a whole, for its health.

    Args:
        address: its host:port.
        timeout_seconds: for connecting and answering together.
        material: of the server's own TLS; None: no encryption.

    Returns:
        What is wrong, in a few words; empty when it is serving.

    Raises:
        InvalidInputError: that is no address.
    """
    with _channel(parse_address(address).target, material) as channel:
        # Its published types leave out the calls.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            request = health_pb2.HealthCheckRequest()
            answer, call = stub.Check.with_call(request, timeout=timeout_seconds)
        except grpc.RpcError as error:
            return str(error.details() or error.code().name)
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    health = "its health is " + health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    told = [str(value) for key, value in call.trailing_metadata() or () if key == REASON_KEY]
    return f"{health}: {told[0]}" if told else health


def own_material() -> Optional[TlsMaterial]:
    """What the service beside this probe is secured by, as its variables tell; None without TLS.

    Raises:
        ConfigurationError: a file cannot be read, or they do not fit together.
    """
    certificate, key, peers_ca = (
        os.environ.get(f"TANDEM_TLS_{name}") for name in ("CERTIFICATE", "KEY", "PEERS_CA")
    )
    if not (certificate and key and peers_ca):
        return None
    paths = TlsPaths(peers_ca=Path(peers_ca), certificate=Path(certificate), key=Path(key))
    return TlsFiles(paths).material


def _channel(target: str, material: Optional[TlsMaterial]) -> grpc.Channel:
    if material is None:
        return grpc.insecure_channel(target, DIRECT_OPTIONS)
    own = None if material.certificate is None else material.certificate.identity
    name = [("grpc.ssl_target_name_override", own.server_name)] if own else []
    return grpc.secure_channel(target, channel_credentials(material), [*DIRECT_OPTIONS, *name])


def main(arguments: Sequence[str]) -> int:
    """Probe an address; returns 0 if it is serving, 1 if it is not, 2 for wrong arguments."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m common.server.probe HOST:PORT\n")
        return 2
    try:
        fault = fault_of(arguments[0], material=own_material())
    except (ConfigurationError, InvalidInputError) as error:
        sys.stderr.write(f"{fit_to_show(str(error))}\n")
        return 2
    if fault:
        sys.stderr.write(f"{fit_to_show(f'{arguments[0]}: {fault}')}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
