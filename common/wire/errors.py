"""Errors <-> gRPC statuses: one table, and what gRPC itself says of a connection that failed.

When a connection fails, gRPC gives each call a status of its own making: UNAVAILABLE, but also
UNKNOWN ('Stream removed'), INTERNAL ('Received RST_STREAM with error code 2', 'Internal error from
Core'; see `common.wire.connections.CallEnding`) or CANCELLED. From a peer these statuses would mean
something else, and only the words tell them apart. The words below are those of grpcio 1.70 to 1.8x
and of grpc-core's sources.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Optional, Type

import grpc
from google.rpc import status_pb2

from common.domain.errors import (
    EngineError,
    InternalError,
    InvalidInputError,
    PreconditionError,
    ReferenceMissingError,
    ResourceExhaustedError,
    TandemError,
    UnavailableError,
    shortened,
)
from common.domain.redaction import masked


class ConnectionFault(Enum):
    """What is wrong with a connection, as people are told it."""

    UNKNOWN_NAME = "its name is not found"
    NOBODY = "nobody answers there"
    LOST = "connection lost"
    NOT_GRPC = "what answers there does not speak gRPC"
    NO_TLS = "what answers there does not speak TLS"
    UNTRUSTED = "its certificate is of an authority that is not trusted here"
    EXPIRED = "its certificate has expired or is not valid yet"
    WRONG_NAME = "its certificate is of another server"
    CLOSED = (
        "it closes each new connection: nobody is behind it, it wants TLS, or it does not accept "
        "the certificate of this side"
    )


TLS_FAULTS = frozenset(
    (
        ConnectionFault.NO_TLS,
        ConnectionFault.UNTRUSTED,
        ConnectionFault.EXPIRED,
        ConnectionFault.WRONG_NAME,
        ConnectionFault.CLOSED,
    )
)
"""Those that no waiting mends: somebody has to change a certificate or a setting."""

_HTTP_STATUS = re.compile(r"http2 header with status: (\d+)", re.IGNORECASE)
# A proxy's, when what is behind it is gone or busy.
_GATEWAY_STATUSES = ("429", "502", "503", "504")
# Statuses that gRPC makes of a connection's end in place of UNAVAILABLE, and its words for them.
_DISGUISES = (
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
_CUT = (
    r"stream removed|socket closed|rst_stream|go_?away|too_many_pings|keepalive|ping.timeout"
    r"|transport (is )?(closed|closing|destroyed)|internal error from core"
)
_LOST = re.compile(
    _CUT + r"|connection (reset|aborted|closed|timed out)|broken pipe|cancelling all calls"
    r"|endpoint (closing|closed|shutdown)|(sub)?channel (closed|shut|disconnected)|recvmsg|sendmsg"
    r"|end of tcp stream|fd shutdown|unreachable|no route to host",
    re.IGNORECASE,
)
_DISGUISED = re.compile(_CUT, re.IGNORECASE)
# What a server of grpcio's says of an exception, which may have any of these words.
_EXCEPTION = re.compile(r"unexpected <class|exception (calling|iterating)", re.IGNORECASE)
# In the order of looking, since some words stand behind others' as their cause.
_NO_CONNECTION = (
    (
        ConnectionFault.UNKNOWN_NAME,
        re.compile(r"resolution failed|errors resolving|address lookup failed", re.IGNORECASE),
    ),
    (
        ConnectionFault.NOT_GRPC,
        re.compile(r"http1\.x server|\(http status \d+\)|expected settings frame", re.IGNORECASE),
    ),
    # Tandem's own words for these faults, which a stage passes on, must not match.
    (ConnectionFault.NO_TLS, re.compile(r"wrong_version_number|:http_request", re.IGNORECASE)),
    (
        ConnectionFault.EXPIRED,
        re.compile(r"verify_failed: certificate (has expired|is not yet valid)", re.IGNORECASE),
    ),
    (ConnectionFault.UNTRUSTED, re.compile(r"certificate_verify_failed", re.IGNORECASE)),
    (
        ConnectionFault.WRONG_NAME,
        re.compile(r"hostname verification|is not in peer certificate", re.IGNORECASE),
    ),
    (
        ConnectionFault.CLOSED,
        re.compile(
            # The last: an alert behind a handshake of TLS 1.3, which takes the certificate last.
            r"failed to connect to all addresses.*"
            r"(socket closed|reset by peer|broken pipe|handshake (read )?failed|unwrap failed)",
            re.IGNORECASE | re.DOTALL,
        ),
    ),
    (ConnectionFault.NOBODY, re.compile(r"failed to connect|connection refused", re.IGNORECASE)),
)


def connection_fault(code: grpc.StatusCode, details: Optional[str]) -> Optional[ConnectionFault]:
    """What happened to a call's connection; None if the status is the server's own.

    Args:
        code: that the call ended with.
        details: its words.
    """
    # A server's words may be of any length; gRPC's are short.
    words = (details or "")[:2000]
    http = _HTTP_STATUS.search(words)
    if http is not None:
        gateway = http.group(1) in _GATEWAY_STATUSES
        return ConnectionFault.LOST if gateway else ConnectionFault.NOT_GRPC
    if code is grpc.StatusCode.CANCELLED:
        # Not by us, or nobody would ask; no server of Tandem's answers so while it lives.
        return ConnectionFault.LOST
    if code in _DISGUISES and not _EXCEPTION.search(words):
        return ConnectionFault.LOST if _DISGUISED.search(words) else None
    if code is not grpc.StatusCode.UNAVAILABLE:
        return None
    for fault, pattern in _NO_CONNECTION:
        if pattern.search(words):
            return fault
    return ConnectionFault.LOST if _LOST.search(words) else None


STATUS_OF_ERROR = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    ReferenceMissingError: grpc.StatusCode.ABORTED,
    ResourceExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    InternalError: grpc.StatusCode.INTERNAL,
}
_ERROR_OF_STATUS = {status: error for error, status in STATUS_OF_ERROR.items()}
_ERROR_OF_CODE = {status.value[0]: error for status, error in _ERROR_OF_STATUS.items()}
ERROR_CODES = frozenset(_ERROR_OF_CODE)
"""The codes that a frame's `error` answer may have."""

# Far more than is told, and little to look for secrets in.
_MOST_WORDS = 4096
# An engine's own words may hold paths and memory addresses of the server.
ENGINE_FAILURE_MESSAGE = "the engine failed; the cause is in the log of the stage"
INTERNAL_FAILURE_MESSAGE = "internal error; the cause is in the server's log"


def grpc_status(error: BaseException) -> grpc.StatusCode:
    """The gRPC status of an error: INTERNAL for any that the table does not name."""
    for kind in type(error).__mro__:
        if kind in STATUS_OF_ERROR:
            return STATUS_OF_ERROR[kind]
    return grpc.StatusCode.INTERNAL


def public_message(error: BaseException) -> str:
    """What a peer may read about an error: never the internals of this process, never much."""
    if isinstance(error, EngineError):
        return ENGINE_FAILURE_MESSAGE
    known = isinstance(error, TandemError)
    return shortened(masked(str(error)[:_MOST_WORDS])) if known else INTERNAL_FAILURE_MESSAGE


def error_to_wire(error: BaseException) -> status_pb2.Status:
    """A frame's `error` answer."""
    return status_pb2.Status(code=grpc_status(error).value[0], message=public_message(error))


def error_from_wire(status: status_pb2.Status) -> TandemError:
    """The error that a frame's `error` answer stands for."""
    kind: Type[TandemError] = _ERROR_OF_CODE.get(status.code, TandemError)
    return kind(shortened(status.message))


def error_from_rpc(code: grpc.StatusCode, details: Optional[str], peer: str) -> TandemError:
    """The error that ended a call; what the table lacks means an unavailable peer."""
    fault = connection_fault(code, details)
    if fault is not None and (details or fault in TLS_FAULTS):
        # gRPC's words for it are many, and some are those of other statuses. Whoever is told of it
        # by way of a server must not take it for a fault of the connection to that one.
        return UnavailableError(f"{peer}: {fault.value}")
    kind: Type[TandemError] = _ERROR_OF_STATUS.get(code, UnavailableError)
    return kind(f"{peer}: {details or code.name}")
