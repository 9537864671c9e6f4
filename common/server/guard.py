"""Guards every handler of a stream: admits it, limits its idle time, turns errors into statuses."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, Iterable, Optional

import grpc
import structlog

from common.domain.errors import ResourceExhaustedError, TandemError, UnavailableError
from common.server.account import Charge, StreamBytes
from common.server.addresses import host_of
from common.server.budget import ByteBudget
from common.server.interception import ParsedRequests
from common.server.traced_calls import metadata_of
from common.wire.errors import INTERNAL_FAILURE_MESSAGE, grpc_status, public_message
from common.wire.message_sizes import told_message_bytes

log = structlog.get_logger()

OPENING_SECONDS = 10.0
"""How long a stream's first message may take, and how long a read may keep others waiting."""

_LOOK_SECONDS = 0.5
# How long to try to tell a peer how its stream ended; one that reads nothing never learns.
_ABORT_SECONDS = 2.0


@dataclass(frozen=True)
class StreamLimits:
    """How many streams there may be, and for how long they may do nothing.

    Attributes:
        streams: how many may be open at a time.
        streams_of_a_peer: how many of them may come from one host.
        unopened_streams: how many of them may not have sent their first message.
        silence_seconds: how long a stream may send nothing while no frame is under way, or leave an
            answer unread; 0: without limit.
        setting_of_a_peer: the setting that sets `streams_of_a_peer`, for who has to raise it.
    """

    streams: int
    streams_of_a_peer: int
    unopened_streams: int
    silence_seconds: float
    setting_of_a_peer: str = "max_sessions"


class GuardedStream:
    """One stream as its handler sees it: an iterator of its requests, and a way to answer.

    Attributes:
        peer: the host that it comes from.
        account: counts the bytes that it holds.
        metadata: of its call.
    """

    def __init__(self, requests: ParsedRequests[Any], context: Any, budget: ByteBudget) -> None:
        """Prepare a stream of this call, whose `grpc.aio.ServicerContext` is `context`."""
        self.peer = host_of(context.peer())
        self.metadata = metadata_of(context)
        told_bytes = told_message_bytes(self.metadata)
        self.account = StreamBytes(budget, self.peer, self._make_way, told_bytes)
        self._requests = requests
        self._write = context.write
        self._now = time.monotonic
        self._active_at = self._now()
        self._reading_since: Optional[float] = None
        self._writing_since: Optional[float] = None
        self._body: Optional[asyncio.Future[None]] = None
        self._error: Optional[TandemError] = None
        self.is_open = False

    def __aiter__(self) -> AsyncIterator[Any]:
        """Iterate over the requests."""
        return self

    async def __anext__(self) -> Any:
        """The next request, once there is room for it.

        Raises:
            InvalidInputError: it is malformed, or holds too much.
            ResourceExhaustedError: there was no room for it for a long time.
        """
        account = self.account
        if not account.has_room:
            await account.reserve()
        self._reading_since = self._now()
        try:
            data = await self._requests.read()
        finally:
            self._reading_since = None
        self.is_open = True
        if not account.arrived_at_once(len(data)):
            await account.arrived(len(data))
        request = self._requests.parse(data)
        self._active_at = self._now()
        return request

    def take(self) -> Charge:
        """The charge for the latest request, to be released when the work on it is done."""
        return self.account.take()

    def drop(self) -> None:
        """Release the latest request at once: it was no frame."""
        self.account.drop()

    async def write(self, answer: Any) -> None:
        """Send an answer.

        Raises:
            UnavailableError: the peer is gone.
        """
        self._writing_since = self._now()
        try:
            await self._write(answer)
        except grpc.aio.InternalError:
            # It left during the write; nothing has failed here.
            raise UnavailableError("the peer is gone") from None
        finally:
            self._writing_since = None
            self._active_at = self._now()

    async def run(self, body: Callable[[GuardedStream], Awaitable[None]]) -> None:
        """Run the handler, `body`, to its end, or until `end` is called.

        Raises:
            TandemError: what `end` was told.
            Exception: what the handler raised.
        """
        self._body = asyncio.ensure_future(body(self))
        try:
            await self._body
        except asyncio.CancelledError:
            if self._error is None:
                raise
            raise self._error from None
        finally:
            self.account.close()

    def end(self, error: TandemError) -> None:
        """End the stream now; does nothing if it has ended already."""
        if self._error is None and self._body is not None:
            self._error = error
            self._body.cancel()

    def _make_way(self) -> None:
        self.end(_making_way())

    @property
    def silent_seconds(self) -> float:
        """How long the peer has sent nothing while no frame was under way."""
        if self._reading_since is None or self.account.outstanding or self._writing_since:
            return 0.0
        return self._now() - max(self._active_at, self._reading_since)

    def fault(self, silence_seconds: float) -> Optional[TandemError]:
        """Why the stream has to end now, if it has to."""
        silent_seconds = self.silent_seconds
        if not self.is_open and silent_seconds > OPENING_SECONDS:
            return UnavailableError(
                f"the first message did not come within {OPENING_SECONDS:g} s; open another stream"
            )
        if silent_seconds > OPENING_SECONDS and self.account.is_in_the_way:
            return _making_way()
        if not silence_seconds:
            return None
        if silent_seconds > silence_seconds:
            return UnavailableError(
                f"nothing came for {silence_seconds:g} s, so the stream was ended; open another"
            )
        writing_since = self._writing_since
        if writing_since is not None and self._now() - writing_since > silence_seconds:
            return UnavailableError(f"an answer was not taken for {silence_seconds:g} s")
        return None


class StreamGuard:
    """Admits streams within limits, ends idle ones, and ends failed ones with a status.

    When all places are taken, a newcomer gets that of a stream which has not sent its first message
    or, if there is none, of the one that has been silent for longest.
    """

    def __init__(self, limits: StreamLimits, budget: ByteBudget) -> None:
        """Admit streams within `limits`; they share the bytes of `budget`."""
        self._limits = limits
        self._budget = budget
        # In the order of their coming.
        self._streams: Dict[GuardedStream, None] = {}
        self._is_looking = False

    async def run(
        self,
        requests: ParsedRequests[Any],
        context: Any,
        body: Callable[[GuardedStream], Awaitable[None]],
    ) -> None:
        """Run one stream's handler, `body`; `context` is a `grpc.aio.ServicerContext`."""
        stream = GuardedStream(requests, context, self._budget)
        try:
            self._admit(stream)
            await stream.run(body)
        except TandemError as error:
            log.warning("stream ended", error=str(error), status=grpc_status(error).name)
            await _abort(context, grpc_status(error), public_message(error))
        except Exception:
            log.exception("stream failed")
            await _abort(context, grpc.StatusCode.INTERNAL, INTERNAL_FAILURE_MESSAGE)
        finally:
            self._streams.pop(stream, None)

    def _admit(self, stream: GuardedStream) -> None:
        limits = self._limits
        unopened = [each for each in self._streams if not each.is_open]
        if len(unopened) >= limits.unopened_streams:
            self._dismiss(unopened[0])
        of_peer = [each for each in self._streams if each.peer == stream.peer]
        if len(of_peer) >= limits.streams_of_a_peer:
            words = f"{limits.streams_of_a_peer} streams of one host are open"
            self._make_room(of_peer, words, limits.setting_of_a_peer)
        if len(self._streams) >= limits.streams:
            self._make_room(self._streams, f"{limits.streams} streams are open", "max_sessions")
        self._streams[stream] = None
        if not self._is_looking:
            self._is_looking = True
            self._look_later()

    def _make_room(self, streams: Iterable[GuardedStream], words: str, setting: str) -> None:
        idle = [each for each in streams if not each.is_open]
        idle = idle or [each for each in streams if each.silent_seconds > OPENING_SECONDS]
        if not idle:
            raise ResourceExhaustedError(f"{words}, which is the limit ({setting})")
        self._dismiss(max(idle, key=lambda each: each.silent_seconds))

    def _dismiss(self, stream: GuardedStream) -> None:
        del self._streams[stream]
        stream.end(ResourceExhaustedError("another stream took the place of this one, which idled"))

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """End the streams that do nothing."""
        self._is_looking = bool(self._streams)
        if not self._is_looking:
            return
        self._look_later()
        for stream in tuple(self._streams):
            fault = stream.fault(self._limits.silence_seconds)
            if fault is not None:
                stream.end(fault)


def _making_way() -> ResourceExhaustedError:
    return ResourceExhaustedError(
        "nothing came, and others need the room that the next message might take; open another "
        "stream"
    )


async def _abort(context: Any, code: grpc.StatusCode, details: str) -> None:
    """End a call with a status; if the peer reads nothing, it ends with its connection."""
    try:
        await asyncio.wait_for(context.abort(code, details), _ABORT_SECONDS)
    except asyncio.TimeoutError:
        log.warning("stream left", status=code.name)
