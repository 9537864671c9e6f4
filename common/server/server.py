"""The gRPC server that every service runs: health, reflection, limits, keepalive, drain."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from typing import Any, Awaitable, Callable, Coroutine, Dict, List, Optional

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from common.domain.address import Address
from common.domain.errors import InternalError, TandemError
from common.domain.redaction import fit_to_show
from common.server.addresses import checked_host, listen, tcp_host
from common.server.exposure import refuse_exposure
from common.server.health import DrainingHealth
from common.server.interception import BoundedCalls
from common.server.metrics_access import MetricsAccess
from common.server.options import raise_file_limit, server_options
from common.server.security import Security
from common.server.settings import ServerSettings
from common.telemetry.exposition import MetricsServer
from common.telemetry.metrics import Metrics
from common.telemetry.sensors import find_sensors
from common.telemetry.tracing import traces_of

log = structlog.get_logger()

# The process ends so long after its grace at the latest.
_LAST_SECONDS = 2.0


class BackgroundWorkError(InternalError):
    """Background work that the service cannot do without has failed or ended."""


class ServiceServer:
    """One service process: its gRPC server, its metrics, and its life from start to drain.

    Attributes:
        metrics: of this service.
        traces: likewise; those that the environment switches on.
        draining: set once SIGTERM has come; handlers answer what they have read, read no more,
            and end their streams.
    """

    def __init__(
        self,
        name: str,
        settings: ServerSettings,
        node: Optional[str] = None,
        security: Optional[Security] = None,
    ) -> None:
        """Prepare; nothing listens yet.

        Args:
            name: of the service, for the announcement.
            settings: where to listen, and the limits.
            node: name of the device that the service runs on, for the announcement.
            security: TLS, and who may call what; None: no encryption, and anybody may.
        """
        self._name = name
        self._node = node
        self._settings = settings
        self.metrics = Metrics(find_sensors())
        self.traces = traces_of(name, node, log.warning)
        self.draining = asyncio.Event()
        self._health = DrainingHealth(self.draining)
        self._security = security
        interceptors: List[grpc.aio.ServerInterceptor] = [BoundedCalls()]
        if security is not None:
            interceptors.insert(0, security.authorization)
        self._server = grpc.aio.server(options=server_options(settings), interceptors=interceptors)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._service_names: List[str] = []
        self._failure: Optional[BaseException] = None
        self._announced: Dict[str, str] = {}

    def announce(self, name: str, address: str) -> None:
        """Tell of a further address once the service is healthy, beside that of gRPC."""
        self._announced[name] = address

    def tell_in_flight(self, in_flight: Callable[[], int]) -> None:
        """Tell those who check the health how many frames the service holds."""
        self._health.in_flight = in_flight

    def add(
        self, register: Callable[[Any, grpc.aio.Server], None], servicer: Any, name: str
    ) -> None:
        """Add a servicer.

        Args:
            register: the generated `add_..._to_server`.
            servicer: what serves.
            name: full name of the gRPC service, for health and reflection.
        """
        register(servicer, self._server)
        self._service_names.append(name)

    def supervise(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run background work that the service cannot do without.

        If the work raises, or ends although the service does not drain, the service drains and
        `run` raises.

        Args:
            work: runs until it is cancelled.
            name: what the log calls it.
        """
        task = asyncio.ensure_future(work)

        def ended(task: asyncio.Task[None]) -> None:
            if task.cancelled() or (self.draining.is_set() and task.exception() is None):
                return
            self._failure = task.exception() or RuntimeError(f"{name} ended")
            log.critical("background work failed", work=name, exc_info=self._failure)
            self._drain()

        task.add_done_callback(ended)
        return task

    async def run(self, prepare: Callable[[], Awaitable[Optional[str]]]) -> None:
        """Serve until SIGTERM or SIGINT, then answer the frames in flight and return.

        Args:
            prepare: does what health must not say SERVING before, such as warming an engine up. It
                is cancelled if the signal comes first. What it returns, if anything, is why this
                service cannot serve; it then stays, and its health says so.

        Raises:
            ConfigurationError: a port cannot be bound, or others would reach it without TLS.
            BackgroundWorkError: work that the service cannot do without has ended.
        """
        self._drain_on_signals()
        security = self._security
        if security is None:
            names = [*self._service_names, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self._server)
        else:
            self.supervise(security.authorization.run(), "looking after callers")
        host = checked_host(self._settings.host)
        refuse_exposure(host, security is not None, self._settings.insecure)
        tls = None if security is None else security.tls.server_credentials()
        address = listen(self._server, host, self._settings.port, tls)
        token_address = self._listen_for_tokens(host)
        metrics_host = tcp_host(host)
        access = None if security is None else self._metrics_access(security)
        metrics_server = MetricsServer(
            self.metrics, metrics_host, self._settings.metrics_port, access
        )
        try:
            await self.set_serving(False)
            await self._server.start()
            reason = await self._prepared(prepare)
            if not self.draining.is_set():
                await self.set_serving(not reason, reason)
                metrics = Address(metrics_host, metrics_server.port)
                self._announce(address, metrics, token_address, reason)
                await self.draining.wait()
            log.info("draining", grace_seconds=self._settings.grace_seconds)
            await self._health.enter_graceful_shutdown()
        finally:
            await self._server.stop(self._settings.grace_seconds)
            metrics_server.close()
            self.traces.close()
        if self._failure is not None:
            raise BackgroundWorkError("background work failed") from self._failure
        log.info("stopped")

    def _metrics_access(self, security: Security) -> MetricsAccess:
        def ends_at_seconds() -> float:
            certificate = security.tls.material.certificate
            return 0.0 if certificate is None else certificate.expires_at_seconds

        self.metrics.tell_certificate(ends_at_seconds)
        return MetricsAccess(security.tls, security.tokens)

    def _listen_for_tokens(self, host: str) -> Optional[Address]:
        port = self._settings.token_port
        if self._security is None or port is None:
            return None
        credentials = self._security.tls.server_credentials(ask_for_certificates=False)
        return listen(self._server, tcp_host(host), port, credentials)

    async def _prepared(self, prepare: Callable[[], Awaitable[Optional[str]]]) -> str:
        """Prepare, but for no longer than until the service drains; returns why it cannot serve."""
        preparing = asyncio.ensure_future(prepare())
        draining = asyncio.ensure_future(self.draining.wait())
        await asyncio.wait([preparing, draining], return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        if preparing.done():
            return preparing.result() or ""
        preparing.cancel()
        return ""

    def _drain_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._drain)

    def _drain(self) -> None:
        """Begin to end; the process is gone soon after its grace, whatever hangs."""
        self.draining.set()
        # The kernel ends the process even if a driver holds the interpreter's lock.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self._settings.grace_seconds + _LAST_SECONDS)

    async def set_serving(self, is_serving: bool, reason: str = "") -> None:
        """Set the health; while the service drains it stays NOT_SERVING."""
        self._health.reason = reason
        answers = health_pb2.HealthCheckResponse
        await self._set_health(answers.SERVING if is_serving else answers.NOT_SERVING)

    async def _set_health(self, status: int) -> None:
        # The empty name stands for the server as a whole.
        for name in ("", *self._service_names):
            await self._health.set(name, status)

    def _announce(
        self, address: Address, metrics: Address, token_address: Optional[Address], reason: str
    ) -> None:
        """Write one line of JSON to stdout that says where this service listens.

        It is healthy then, or `not_serving` says why it never will be.
        """
        announcement = {
            "service": self._name,
            "node": self._node,
            "address": str(address),
            "metrics": f"http{'' if self._security is None else 's'}://{metrics}/metrics",
            "pid": os.getpid(),
        }
        if token_address is not None:
            announcement["token_address"] = str(token_address)
        if reason:
            announcement["not_serving"] = reason
        announcement.update(self._announced)
        sys.stdout.write(json.dumps(announcement) + "\n")
        sys.stdout.flush()
        if reason:
            log.error("not serving", **announcement)
        else:
            log.info("serving", **announcement)


def run_service(main: Callable[[], Coroutine[Any, Any, bool]], program: str) -> None:
    """Run a service to its end, and end the process.

    If it cannot start, one sentence says why and the exit code is 2; if it fails later, it is 1.

    Args:
        main: serves; returns whether all of its threads have ended.
        program: its name, for what is said on stderr.
    """
    raise_file_limit()
    # What was imported lasts as long as the process. To look through it for garbage takes 30 to
    # 90 ms in which no other thread goes on, each time that memory is given back.
    gc.collect()
    gc.freeze()
    try:
        ended = asyncio.run(main())
    except TandemError as error:
        sys.stderr.write(f"{program}: {fit_to_show(str(error))}\n")
        raise SystemExit(1 if isinstance(error, BackgroundWorkError) else 2) from None
    if not ended:
        log.error("threads that hang are left behind")
        # An ordinary exit would unload libraries under a thread that is still in one of them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
