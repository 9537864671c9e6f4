"""Any method called as anybody, and what comes of it."""

import asyncio
from contextlib import suppress

import grpc

from common.security.identity import Identity
from common.wire.connections import CallEnding

SERVED = "served"
UNKNOWN_CALLER = "UNAUTHENTICATED"
FORBIDDEN = "PERMISSION_DENIED"
# The handshake fails: such a caller does not get as far as to call anything.
NO_CONNECTION = "UNAVAILABLE"
# The details of a stream that ended while a message was written: gRPC has lost its status.
LOST = "Internal error from Core"

DETECT = "/tandem.v1.Detector/Detect"
GET_STATUS = "/tandem.v1.Operations/GetStatus"
WATCH_STATUS = "/tandem.v1.Operations/WatchStatus"
SET_PLACEMENT = "/tandem.v1.Operations/SetPlacement"
BACKBONE = "/tandem.v1.Backbone/Process"
TRANSFORMER = "/tandem.v1.Transformer/Process"
HEALTH = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
UNKNOWN_METHODS = ("/tandem.v1.Detector/Steal", "/no.Service/Method", REFLECTION)

ORCHESTRATOR_METHODS = (DETECT, GET_STATUS, WATCH_STATUS, SET_PLACEMENT)


def channel_to(address: str, credentials, server: str = "") -> grpc.aio.Channel:
    """A channel that checks whose server it is, where that is given."""
    name = [("grpc.ssl_target_name_override", Identity.parse(server).server_name)]
    return grpc.aio.secure_channel(address, credentials, name if server else None)


def bearer(token: str):
    return (("authorization", f"Bearer {token}"),)


async def outcome(channel: grpc.aio.Channel, method: str, metadata=None):
    """How an empty request is answered: `SERVED`, or the name of the status, and its words.

    What a method itself has against an empty request counts as served.
    """
    call = channel.stream_stream(method)(timeout=60, metadata=metadata)
    ending = CallEnding(call)
    answer = grpc.aio.EOF
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await call.write(b"")
        await call.done_writing()
        answer = await call.read()
    if answer is not grpc.aio.EOF:
        call.cancel()
        return SERVED, ""
    await ending.wait()
    code, details = ending.code.name, ending.details
    if details == LOST:
        return await outcome(channel, method, metadata)
    refusals = (UNKNOWN_CALLER, FORBIDDEN, NO_CONNECTION)
    return (code, details) if code in refusals else (SERVED, "")
