"""How a call ended."""

from __future__ import annotations

from typing import Any, Optional

import grpc

from common.domain.errors import TandemError
from common.wire.status import error_from_rpc


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
