"""Who may call what: one table, enforced for every call of a server with TLS; default deny."""

from __future__ import annotations

import asyncio
import inspect
import time
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, FrozenSet, Optional, Set

import grpc
import structlog

from common.security.identity import Identity, Role
from common.security.tls import TlsFiles
from common.security.tokens import TokenFiles, bearer_token
from common.server.addresses import host_of
from common.server.interception import HANDLERS, behaviour_of

log = structlog.get_logger()

# Of the gateway's service for clients of inference servers, those who detect nothing.
_READERS = frozenset({Role.CLIENT, Role.OPERATOR, Role.MONITOR})

ALLOWED: Dict[str, FrozenSet[Role]] = {
    "/tandem.v1.Detector/Detect": frozenset({Role.CLIENT, Role.GATEWAY}),
    # A client gets to see its own sessions, and nothing else. So the gateway tells clients nothing
    # of what it sees.
    "/tandem.v1.Operations/GetStatus": frozenset({Role.OPERATOR, Role.CLIENT, Role.GATEWAY}),
    "/tandem.v1.Operations/WatchStatus": frozenset({Role.OPERATOR, Role.CLIENT, Role.GATEWAY}),
    "/tandem.v1.Operations/SetPlacement": frozenset({Role.OPERATOR}),
    "/tandem.v1.Operations/DeployBundle": frozenset({Role.OPERATOR}),
    "/tandem.v1.Models/Watch": frozenset({Role.ORCHESTRATOR}),
    "/tandem.v1.Models/Deploy": frozenset({Role.ORCHESTRATOR}),
    "/tandem.v1.Backbone/Process": frozenset({Role.ORCHESTRATOR}),
    "/tandem.v1.Transformer/Process": frozenset({Role.BACKBONE}),
    "/inference.GRPCInferenceService/ServerLive": _READERS,
    "/inference.GRPCInferenceService/ServerReady": _READERS,
    "/inference.GRPCInferenceService/ServerMetadata": _READERS,
    "/inference.GRPCInferenceService/ModelReady": _READERS,
    "/inference.GRPCInferenceService/ModelMetadata": _READERS,
    "/inference.GRPCInferenceService/ModelConfig": _READERS,
    "/inference.GRPCInferenceService/RepositoryIndex": _READERS,
    # Answered to nobody but by a sentence.
    "/inference.GRPCInferenceService/RepositoryModelLoad": _READERS,
    "/inference.GRPCInferenceService/RepositoryModelUnload": _READERS,
    "/inference.GRPCInferenceService/ModelInfer": frozenset({Role.CLIENT}),
    "/inference.GRPCInferenceService/ModelStreamInfer": frozenset({Role.CLIENT}),
    "/grpc.health.v1.Health/Check": frozenset({Role.ORCHESTRATOR, Role.MONITOR}),
    "/grpc.health.v1.Health/Watch": frozenset({Role.ORCHESTRATOR, Role.MONITOR}),
    "/grpc.health.v1.Health/List": frozenset({Role.ORCHESTRATOR, Role.MONITOR}),
}
"""The roles that may call a method; a method that is not here may be called by nobody.

A server may also ask for its own health, by its own certificate: the probes of containers do.
"""

DENIED_MESSAGE = "access denied"
"""All that a refused caller is told; the log tells the operator who it was, and why."""

_HEALTH = "/grpc.health.v1.Health/"
# How often the calls under way are looked at.
_LOOK_SECONDS = 1.0
# A caller that reads nothing gets no status.
_ABORT_SECONDS = 5.0

_CALLER: ContextVar[Optional[Identity]] = ContextVar("caller", default=None)


def calling_identity() -> Optional[Identity]:
    """Who makes the call that is being served; None without TLS, where nobody can know."""
    return _CALLER.get()


class _Refusal(Exception):  # noqa: N818 - it is no fault, but an answer
    """Why a call is refused: for the log, never for the caller."""

    def __init__(self, status: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(eq=False)
class _Call:
    """A call under way."""

    method: str
    context: Any
    identity: Identity
    task: Optional[asyncio.Task[Any]]
    refusal: Optional[_Refusal] = None


class Authorization(grpc.aio.ServerInterceptor):
    """Lets a call through if its caller's role allows the method; ends calls that lose that right.

    A caller proves who it is by the certificate of its connection or, on the port for tokens, by a
    token. Whoever proves nothing is answered UNAUTHENTICATED, and whoever may not call the method,
    also one that does not exist, PERMISSION_DENIED.
    """

    def __init__(self, own: Identity, tls: TlsFiles, tokens: Optional[TokenFiles] = None) -> None:
        """Trust the certificates that `tls` allows, and `tokens`.

        Args:
            own: the identity of this server.
            tls: its certificates, and whom it trusts.
            tokens: of callers without a certificate; None: there are none.
        """
        self._own = own
        self._tls = tls
        self._tokens = tokens
        self._calls: Set[_Call] = set()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """See `grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(self._unknown(method))
        serve = behaviour_of(handler)

        async def answer_by_writing(request: Any, context: Any) -> Any:
            async with self._admitted(method, context):
                return await serve(request, context)

        async def answer_by_yielding(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._admitted(method, context):
                async for answer in serve(request, context):
                    yield answer

        yields = inspect.isasyncgenfunction(serve)
        return HANDLERS[handler.request_streaming, handler.response_streaming](
            answer_by_yielding if yields else answer_by_writing,
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _unknown(self, method: str) -> Callable[[Any, Any], Awaitable[None]]:
        async def refuse(_: Any, context: Any) -> None:
            async with self._admitted(method, context):
                # A method of the table that another service has.
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

        return refuse

    @asynccontextmanager
    async def _admitted(self, method: str, context: Any) -> AsyncIterator[None]:
        """Let a call through while its caller may make it."""
        try:
            identity = self._identified(context)
            self._check(method, identity)
        except _Refusal as refusal:
            await _refuse(method, context, refusal)
            raise
        call = _Call(method, context, identity, asyncio.current_task())
        _CALLER.set(identity)
        self._calls.add(call)
        try:
            yield
        except asyncio.CancelledError:
            if call.refusal is None:
                raise
            await _refuse(method, context, call.refusal)
            raise
        finally:
            self._calls.discard(call)

    def _identified(self, context: Any) -> Identity:
        """Who the caller proves to be.

        Raises:
            _Refusal: nobody, or not any more.
        """
        certificates = context.auth_context().get("x509_pem_cert")
        if certificates:
            proof = self._tls.material.proof(certificates[0])
        elif self._tokens is not None:
            proof = self._tokens.proof(bearer_token(context.invocation_metadata()))
        else:
            proof = None
        if proof is None or proof.expires_at_seconds <= time.time():
            raise _Refusal(grpc.StatusCode.UNAUTHENTICATED, "it proves no identity")
        return proof.identity

    def _check(self, method: str, identity: Identity) -> None:
        """Check that a method is for this caller.

        Raises:
            _Refusal: it is not.
        """
        asks_itself = identity == self._own and method.startswith(_HEALTH)
        if not asks_itself and identity.role not in ALLOWED.get(method, ()):
            raise _Refusal(grpc.StatusCode.PERMISSION_DENIED, f"{identity} may not call this")

    async def run(self) -> None:
        """End the calls whose caller has lost the right to them, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for call in tuple(self._calls):
                self._look_at(call)

    def _look_at(self, call: _Call) -> None:
        try:
            identity = self._identified(call.context)
            if identity != call.identity:
                raise _Refusal(grpc.StatusCode.UNAUTHENTICATED, f"it was {call.identity}")
        except _Refusal as refusal:
            if call.refusal is None and call.task is not None:
                call.refusal = refusal
                call.task.cancel()


async def _refuse(method: str, context: Any, refusal: _Refusal) -> None:
    """Answer a call that is refused, by raising what ends it."""
    log.warning(
        "call refused", method=method[:200], client=host_of(context.peer()), reason=str(refusal)
    )
    try:
        await asyncio.wait_for(context.abort(refusal.status, DENIED_MESSAGE), _ABORT_SECONDS)
    except asyncio.TimeoutError:
        raise asyncio.CancelledError("the caller takes no answer") from None
