"""Errors and statuses, there and back."""

import grpc
import pytest

from common.domain import errors
from common.wire.errors import error_from_rpc, error_from_wire, error_to_wire, grpc_status

TABLE = {
    errors.InvalidInputError: "INVALID_ARGUMENT",
    errors.PreconditionError: "FAILED_PRECONDITION",
    errors.UnavailableError: "UNAVAILABLE",
    errors.ResourceExhaustedError: "RESOURCE_EXHAUSTED",
    errors.InternalError: "INTERNAL",
}


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_each_error_has_its_status_there_and_back(kind):
    status = error_to_wire(kind("what happened"))
    assert grpc_status(kind("x")).name == TABLE[kind]
    assert status.code == grpc_status(kind("x")).value[0]
    assert type(error_from_wire(status)) is kind
    assert type(error_from_rpc(grpc.StatusCode[TABLE[kind]], "words", "peer")) is kind


def test_the_callers_errors_are_told_in_full():
    assert error_to_wire(errors.InvalidInputError("no pixels")).message == "no pixels"


@pytest.mark.parametrize("error", [errors.EngineError("at 0xdead"), KeyError("/etc/secret")])
def test_internals_never_leave_the_process(error):
    status = error_to_wire(error)
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert "0xdead" not in status.message
    assert "secret" not in status.message


def test_an_unknown_status_counts_as_the_peer_being_lost():
    error = error_from_rpc(grpc.StatusCode.CANCELLED, None, "backbone on edge")
    assert isinstance(error, errors.UnavailableError)
    assert str(error) == "backbone on edge: CANCELLED"
