"""A lost connection is told from what a server says, whatever status gRPC makes of it."""

import grpc
import pytest

from common.domain.errors import InternalError, InvalidInputError, UnavailableError
from common.wire.errors import (
    ENGINE_FAILURE_MESSAGE,
    INTERNAL_FAILURE_MESSAGE,
    ConnectionFault,
    connection_fault,
    error_from_rpc,
)


@pytest.mark.parametrize(
    ("code", "details"),
    [
        ("UNKNOWN", "Stream removed"),
        ("UNAVAILABLE", "Stream removed (Socket closed)"),
        ("INTERNAL", "Internal error from Core"),
        ("INTERNAL", "Received RST_STREAM with error code 2"),
        ("INTERNAL", "RST_STREAM closed stream. HTTP/2 error code: INTERNAL_ERROR"),
        ("UNAVAILABLE", "Received RST_STREAM with error code 7"),
        ("RESOURCE_EXHAUSTED", "RST_STREAM closed stream. HTTP/2 error code: ENHANCE_YOUR_CALM"),
        ("CANCELLED", "Received RST_STREAM with error code 8"),
        ("CANCELLED", "CANCELLED"),
        ("UNAVAILABLE", "Socket closed"),
        ("UNAVAILABLE", "recvmsg:Connection reset by peer"),
        ("UNAVAILABLE", "sendmsg: Broken pipe (32)"),
        ("UNAVAILABLE", "Connection reset by peer"),
        ("UNAVAILABLE", "keepalive watchdog timeout"),
        ("UNAVAILABLE", "ping timeout"),
        ("UNAVAILABLE", "GOAWAY received; Error code: 11; Debug Text: ping_timeout"),
        ("UNAVAILABLE", "Too many pings: too_many_pings"),
        ("UNAVAILABLE", "Cancelling all calls"),
        ("UNAVAILABLE", "Endpoint closing"),
        ("UNAVAILABLE", "Transport closed"),
        ("UNAVAILABLE", "recvmsg:No route to host"),
        ("UNAVAILABLE", "Received http2 header with status: 502"),
        ("UNAVAILABLE", "Received http2 header with status: 503"),
    ],
)
def test_the_connection_was_lost(code, details):
    assert connection_fault(grpc.StatusCode[code], details) is ConnectionFault.LOST
    error = error_from_rpc(grpc.StatusCode[code], details, "backbone on edge")
    assert type(error) is UnavailableError
    assert str(error) == "backbone on edge: connection lost"


CONNECTING = "failed to connect to all addresses; last error: {}: ipv4:127.0.0.1:1: {}"
SSL = "SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:"


# As grpcio 1.70 and 1.85 say it.
@pytest.mark.parametrize("handshake", ["Ssl handshake failed", "Tls handshake failed"])
@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("WRONG_VERSION_NUMBER: Invalid certificate verification context", ConnectionFault.NO_TLS),
        ("CERTIFICATE_VERIFY_FAILED: certificate has expired", ConnectionFault.EXPIRED),
        ("CERTIFICATE_VERIFY_FAILED: certificate is not yet valid: OK", ConnectionFault.EXPIRED),
        (
            "CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate",
            ConnectionFault.UNTRUSTED,
        ),
        (
            "CERTIFICATE_VERIFY_FAILED: self signed certificate in certificate chain: OK",
            ConnectionFault.UNTRUSTED,
        ),
        ("TLSV1_ALERT_UNKNOWN_CA", ConnectionFault.CLOSED),
    ],
)
def test_the_handshake_failed(handshake, words, fault):
    told = CONNECTING.format("UNKNOWN", f"{handshake} (TSI_PROTOCOL_FAILURE): {SSL}{words}")
    assert connection_fault(grpc.StatusCode.UNAVAILABLE, told) is fault
    error = error_from_rpc(grpc.StatusCode.UNAVAILABLE, told, "backbone on edge")
    assert str(error) == f"backbone on edge: {fault.value}"
    # A service passes this on: whoever gets it must not take it for a fault of that connection.
    assert connection_fault(grpc.StatusCode.UNAVAILABLE, str(error)) is None


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("Peer name a.b is not in peer certificate", ConnectionFault.WRONG_NAME),
        (
            "Custom verification check failed with error: UNAUTHENTICATED: Hostname Verification "
            "Check failed.",
            ConnectionFault.WRONG_NAME,
        ),
        ("Socket closed", ConnectionFault.CLOSED),
        ("recvmsg:Connection reset by peer", ConnectionFault.CLOSED),
        ("Handshake read failed (Socket closed)", ConnectionFault.CLOSED),
        # An alert of TLS 1.3 behind the handshake.
        ("Unwrap failed (TSI_DATA_CORRUPTED)", ConnectionFault.CLOSED),
    ],
)
def test_a_side_did_not_accept_the_other(words, fault):
    told = CONNECTING.format("UNAVAILABLE", words)
    assert connection_fault(grpc.StatusCode.UNAVAILABLE, told) is fault
    error = error_from_rpc(grpc.StatusCode.UNAVAILABLE, told, "backbone on edge")
    assert connection_fault(grpc.StatusCode.UNAVAILABLE, str(error)) is None


@pytest.mark.parametrize(
    ("code", "details", "fault"),
    [
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
            "Failed to connect to remote host: Connection refused",
            ConnectionFault.NOBODY,
        ),
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:10.0.0.9:1: "
            "Socket closed",
            ConnectionFault.CLOSED,
        ),
        (
            "UNAVAILABLE",
            "DNS resolution failed for h:1: UNKNOWN: getaddrinfo: Name or service not known (-2)",
            ConnectionFault.UNKNOWN_NAME,
        ),
        (
            "UNAVAILABLE",
            "errors resolving h:1: [field:hostname lookup error:Address lookup failed for h:1 "
            "os_error: Name or service not known syscall: getaddrinfo]",
            ConnectionFault.UNKNOWN_NAME,
        ),
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:80: "
            "Trying to connect an http1.x server (HTTP status 400)",
            ConnectionFault.NOT_GRPC,
        ),
        ("UNIMPLEMENTED", "Received http2 header with status: 404", ConnectionFault.NOT_GRPC),
    ],
)
def test_there_was_no_connection(code, details, fault):
    assert connection_fault(grpc.StatusCode[code], details) is fault
    error = error_from_rpc(grpc.StatusCode[code], details, "backbone on edge")
    assert connection_fault(grpc.StatusCode.UNAVAILABLE, str(error)) is None
    assert isinstance(error, UnavailableError)


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("INTERNAL", ENGINE_FAILURE_MESSAGE, InternalError),
        ("INTERNAL", INTERNAL_FAILURE_MESSAGE, InternalError),
        ("INTERNAL", "the engine's connection closed", InternalError),
        ("INTERNAL", None, InternalError),
        ("UNAVAILABLE", "the server is draining", UnavailableError),
        ("UNAVAILABLE", None, UnavailableError),
        ("INVALID_ARGUMENT", "no picture: Stream removed", InvalidInputError),
        ("UNKNOWN", "Unexpected <class 'OSError'>: Socket closed", UnavailableError),
        ("RESOURCE_EXHAUSTED", "64 streams are open, which is the limit", None),
    ],
)
def test_the_server_said_it(code, details, kind):
    status = grpc.StatusCode[code]
    assert connection_fault(status, details) is None
    error = error_from_rpc(status, details, "peer")
    assert str(error) == f"peer: {details or code}"
    if kind is not None:
        assert type(error) is kind
