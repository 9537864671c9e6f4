"""Intercepts every call of a server: parses requests within limits and counts open watches."""

from __future__ import annotations

import inspect
from collections import Counter
from contextlib import contextmanager
from typing import (
    Any,
    AsyncIterator,
    Awaitable,
    Callable,
    Dict,
    Generic,
    Iterator,
    Optional,
    Tuple,
    TypeVar,
)

import grpc

from common.domain.errors import ResourceExhaustedError, TandemError
from common.server.addresses import host_of
from common.wire.errors import grpc_status, public_message
from common.wire.parsing import RequestParser, parser_of

M = TypeVar("M")

MAX_WATCHES = 1024
"""How many streams of health, status and reflection may be open; one host gets a quarter."""

# The methods whose streams a `StreamGuard` counts.
_GUARDED = (
    "/tandem.v1.Detector/Detect",
    "/tandem.v1.Backbone/Process",
    "/tandem.v1.Transformer/Process",
    "/inference.GRPCInferenceService/ModelStreamInfer",
)


class ParsedRequests(Generic[M]):
    """The requests of a stream, as the handlers of grpc.aio get them.

    They are read by the call's context: gRPC's own iterator would keep the bytes of each request
    until the next has come.
    """

    def __init__(self, context: Any, parser: RequestParser[Any]) -> None:
        """Read from the call of this `grpc.aio.ServicerContext`."""
        self._context = context
        self._parser = parser

    def __aiter__(self) -> AsyncIterator[M]:
        """Iterate over the requests."""
        return self

    async def __anext__(self) -> M:
        """The next request.

        Raises:
            InvalidInputError: it is malformed, or holds too much.
        """
        return self.parse(await self.read())

    async def read(self) -> bytes:
        """The next request as it came.

        Raises:
            StopAsyncIteration: there is none.
        """
        data = await self._context.read()
        if data is grpc.aio.EOF:
            raise StopAsyncIteration
        return data  # type: ignore[no-any-return]

    def parse(self, data: bytes) -> M:
        """Parse a request that was read.

        Raises:
            InvalidInputError: it is malformed, or holds too much.
        """
        return self._parser.parse(data)  # type: ignore[no-any-return]


class BoundedCalls(grpc.aio.ServerInterceptor):
    """Parses the requests of every method by `RequestParser`, and limits the number of watches.

    A call whose caller made an error ends with the status of that error.
    """

    def __init__(self) -> None:
        """Nobody watches yet."""
        self._watches: Counter[str] = Counter()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """See `grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        # Generated code names the class of the requests by its method FromString.
        parser = parser_of(handler.request_deserializer.__self__)
        serve = behaviour_of(handler)
        is_watch = handler.response_streaming and handler_call_details.method not in _GUARDED

        def parsed(request: Any, context: Any) -> Any:
            if handler.request_streaming:
                return ParsedRequests(context, parser)
            return parser.parse(request)

        async def answer_by_writing(request: Any, context: Any) -> Any:
            try:
                with self._counted(context.peer() if is_watch else None):
                    return await serve(parsed(request, context), context)
            except TandemError as error:
                await context.abort(grpc_status(error), public_message(error))

        async def answer_by_yielding(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                with self._counted(context.peer() if is_watch else None):
                    async for answer in serve(parsed(request, context), context):
                        yield answer
            except TandemError as error:
                await context.abort(grpc_status(error), public_message(error))

        yields = inspect.isasyncgenfunction(serve)
        bounded = answer_by_yielding if yields else answer_by_writing
        return HANDLERS[handler.request_streaming, handler.response_streaming](
            bounded, None, handler.response_serializer
        )

    @contextmanager
    def _counted(self, peer: Optional[str]) -> Iterator[None]:
        """Count a watch of this peer while it lasts; a call that is no watch passes None.

        Raises:
            ResourceExhaustedError: there are too many.
        """
        if peer is None:
            yield
            return
        host = host_of(peer)
        most_of_host = MAX_WATCHES // 4
        if self._watches[host] >= most_of_host or sum(self._watches.values()) >= MAX_WATCHES:
            raise ResourceExhaustedError(
                f"{MAX_WATCHES} streams of health, status and reflection, or {most_of_host} of one "
                "host, are open, which is the limit"
            )
        self._watches[host] += 1
        try:
            yield
        finally:
            self._watches[host] -= 1
            if not self._watches[host]:
                del self._watches[host]


HANDLERS: Dict[Tuple[bool, bool], Callable[..., grpc.RpcMethodHandler[Any, Any]]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def behaviour_of(handler: Any) -> Callable[[Any, Any], Any]:
    """The function that serves a call: the one of the four kinds that is set."""
    behaviour: Callable[[Any, Any], Any] = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    return behaviour
