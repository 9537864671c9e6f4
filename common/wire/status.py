"""One table from errors to gRPC statuses, and the way back."""

from __future__ import annotations

from typing import Optional, Type

import grpc
from google.rpc import status_pb2

from common.domain.errors import (
    EngineError,
    InternalError,
    InvalidInputError,
    PreconditionError,
    ResourceExhaustedError,
    TandemError,
    UnavailableError,
)
from common.domain.text import shortened
from common.wire.loss import ConnectionFault, connection_fault

STATUS_OF_ERROR = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    ResourceExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    InternalError: grpc.StatusCode.INTERNAL,
}
_ERROR_OF_STATUS = {status: error for error, status in STATUS_OF_ERROR.items()}
_ERROR_OF_CODE = {status.value[0]: error for status, error in _ERROR_OF_STATUS.items()}
ERROR_CODES = frozenset(_ERROR_OF_CODE)
"""The codes that a frame's `error` answer may have."""

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
    return shortened(str(error)) if isinstance(error, TandemError) else INTERNAL_FAILURE_MESSAGE


def status_to_wire(error: BaseException) -> status_pb2.Status:
    """A frame's `error` answer."""
    return status_pb2.Status(code=grpc_status(error).value[0], message=public_message(error))


def status_from_wire(status: status_pb2.Status) -> TandemError:
    """The error that a frame's `error` answer stands for."""
    kind: Type[TandemError] = _ERROR_OF_CODE.get(status.code, TandemError)
    return kind(shortened(status.message))


def error_from_rpc(code: grpc.StatusCode, details: Optional[str], peer: str) -> TandemError:
    """The error that ended a call; what the table does not name counts as the peer being lost."""
    fault = connection_fault(code, details)
    if fault is ConnectionFault.LOST and details:
        # gRPC's words for it are many, and some are those of other statuses.
        return UnavailableError(f"{peer}: {fault.value}")
    kind: Type[TandemError] = _ERROR_OF_STATUS.get(code, UnavailableError)
    return kind(f"{peer}: {details or code.name}")
