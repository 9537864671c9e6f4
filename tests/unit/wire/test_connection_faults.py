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
            ConnectionFault.NOBODY,
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
