"""Connections to other parts of Tandem: how they are opened, and how a call on one ended."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import grpc

from common.domain.address import parse_address
from common.domain.errors import TandemError
from common.wire.errors import error_from_rpc

Options = Sequence[Tuple[str, Any]]

DIRECT_OPTIONS: List[Tuple[str, Any]] = [
    # What http_proxy and the like name leads out of the network that Tandem's parts share.
    ("grpc.enable_http_proxy", 0),
    # By default a machine that came back under another address is not found for 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
]
"""Of every connection between parts of Tandem, whatever the environment says."""


def open_channel(
    address: str, options: Options = (), credentials: Optional[grpc.ChannelCredentials] = None
) -> grpc.aio.Channel:
    """A channel to a server of Tandem's; it connects when it is first used.

    Args:
        address: in any spelling of `common.domain.address.parse_address`.
        options: more, for this channel.
        credentials: of TLS; None: no encryption.

    Raises:
        InvalidInputError: that is no address.
    """
    target, options = parse_address(address).target, [*DIRECT_OPTIONS, *options]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, credentials, options)


class CallEnding:
    """The status with which the server ended a call.

    grpc.aio overwrites that status with INTERNAL, 'Internal error from Core', when a write is
    under way as it arrives (grpc issue 36066), so that a client would not learn why its stream
    was ended. The first status reported is the server's; it is kept here.

    Attributes:
        code: None until the call has ended.
        details: the server's words.
    """

    def __init__(self, call: Any) -> None:
        """Follow a streaming call of grpc.aio."""
        self.code: Optional[grpc.StatusCode] = None
        self.details = ""
        self._call = call
        call.add_done_callback(self._note)

    async def wait(self) -> None:
        """Wait until the call has ended."""
        await self._call.code()

    async def error(self, peer: str) -> TandemError:
        """The error that a call to `peer` which should go on ended with; waits for the end."""
        await self.wait()
        code = grpc.StatusCode.UNAVAILABLE if self.code is None else self.code
        if code is grpc.StatusCode.OK:
            return error_from_rpc(grpc.StatusCode.UNAVAILABLE, "the stream was ended", peer)
        return error_from_rpc(code, self.details, peer)

    def _note(self, call: Any) -> None:
        if self.code is None:
            self.code, self.details = _result(call.code()), _result(call.details()) or ""


def _result(finished: Any) -> Any:
    """The result of a coroutine that has nothing to wait for: the call is done."""
    try:
        finished.send(None)
    except StopIteration as stop:
        return stop.value
    finished.close()
    return None
