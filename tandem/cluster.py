"""Tandem on one machine: an edge node, a workstation node and the orchestrator as children."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from common.bundle import load_bundle
from common.domain.address import parse_host
from common.domain.errors import UnavailableError
from common.domain.placement import EDGE, WORKSTATION, Stage
from common.engines.base import Device
from common.security.identity import Identity, Role
from common.server.exposure import refuse_exposure
from services.arguments import orchestrator_arguments, stage_arguments, tls_arguments
from services.pipeline.precision import PrecisionWish
from tandem.access import Credentials
from tandem.client import DetectorClient
from tandem.processes import Announcement, LogSink, ServiceProcess
from tandem.signatures import required_key
from tandem.threads import threads_per_engine

NODES = (EDGE, WORKSTATION)
# Stages on their own; once healthy they have to be found by the orchestrator, too.
_AVAILABLE_TIMEOUT_SECONDS = 20.0
_AVAILABLE_POLL_SECONDS = 0.1
# Stages start beside the orchestrator, which at first finds none.
HEALTH_INTERVAL_SECONDS = 0.1
_LOOPBACK = "127.0.0.1"
ORCHESTRATOR = Identity(Role.ORCHESTRATOR, WORKSTATION)
"""Who a cluster's orchestrator is, where it has certificates."""


@dataclass(frozen=True)
class ClusterOptions:
    """How to start a local cluster.

    Attributes:
        bundle: folder of the model that both nodes run.
        models: folders of further models that they run beside it, by the models' names.
        bundles: folder of bundles that can be deployed; None: there is none.
        host: address that the orchestrator listens on; the stages are on loopback.
        port: port of the orchestrator; 0 picks a free one.
        device: where the stages' engines compute; None: on the CPU.
        precision: what they compute in, as `--engine-precision` of the stages.
        require_signature: file of the public key by which the bundle has to be signed; None: the
            one that `TANDEM_REQUIRE_SIGNATURE` names, if it is set.
        paced_milliseconds: for each stage that is slowed down, the least duration of an execution.
        window: frames of a session in flight; None: the orchestrator finds its own.
        objective: what the orchestrator's automatic choice optimises; None: its default.
        certificates: folder of an authority with certificates for both nodes and an operator;
            None: no TLS.
        insecure: whether other machines may be served without TLS.
        log_level: lowest level that the services log.
        on_log: called with a service's name and each line of its log.
    """

    bundle: Path
    models: Mapping[str, Path] = field(default_factory=dict)
    bundles: Path | None = None
    host: str = _LOOPBACK
    port: int = 0
    device: Device | None = None
    precision: str = PrecisionWish.AUTO.value
    require_signature: Path | None = None
    paced_milliseconds: Mapping[Stage, float] = field(default_factory=dict)
    window: int | None = None
    objective: str | None = None
    certificates: Path | None = None
    insecure: bool = False
    log_level: str = "warning"
    on_log: LogSink | None = None


@dataclass(frozen=True)
class RunningStage:
    """A stage that has been started."""

    node: str
    stage: Stage
    announcement: Announcement


class LocalCluster:
    """A local cluster; an asynchronous context manager.

    Entering starts all five services at once and returns when every placement can be served.
    Leaving stops and reaps them, whatever happened; should this process be killed, they end
    themselves (see `tandem.child`).

    Attributes:
        orchestrator: where the orchestrator listens; set while the cluster runs.
        stages: where the stages listen; set while the cluster runs.
    """

    orchestrator: Announcement
    stages: tuple[RunningStage, ...]

    def __init__(self, options: ClusterOptions) -> None:
        """Prepare; nothing is started yet."""
        self._options = options
        self._processes: list[ServiceProcess] = []

    async def __aenter__(self) -> Self:
        """Start.

        Raises:
            ConfigurationError: there is no valid bundle, or other machines would be served without
                TLS.
            UnavailableError: a service did not start; with its last words.
        """
        options = self._options
        for folder in (options.bundle, *options.models.values()):
            load_bundle(folder, required_key(options.require_signature))
        refuse_exposure(
            parse_host(options.host), options.certificates is not None, options.insecure
        )
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop and reap every child."""
        await self._stop()

    @property
    def processes(self) -> tuple[ServiceProcess, ...]:
        """The children: the orchestrator first."""
        return tuple(self._processes)

    async def _start(self) -> None:
        options = self._options
        try:
            ports = free_ports(2 * len(NODES) + 1, _LOOPBACK)
        except OSError as error:
            raise UnavailableError(str(error)) from error
        keys = [(node, stage) for node in NODES for stage in Stage]
        addresses = {key: f"{_LOOPBACK}:{port}" for key, port in zip(keys, ports, strict=False)}
        seen = {key: [address] for key, address in addresses.items()}
        own = f"{options.host}:{options.port or ports[-1]}"
        more = self._orchestrator_options()
        await self._launch(
            "orchestrator",
            "services.orchestrator",
            [*orchestrator_arguments(own, seen), *more, *self._security(ORCHESTRATOR)],
        )
        for (node, stage), address in addresses.items():
            arguments = stage_arguments(options.bundle, node, stage, address, seen)
            name, module = f"{node} {stage.value}", f"services.{stage.value}"
            arguments += [
                *self._stage_options(stage),
                *self._security(Identity(Role(stage.value), node)),
            ]
            await self._launch(name, module, arguments)
        self.orchestrator, *told = await self._announcements()
        self._refuse_unable()
        self.stages = tuple(
            RunningStage(node, stage, announcement)
            for (node, stage), announcement in zip(keys, told, strict=True)
        )
        await self._wait_until_available()

    async def _launch(self, name: str, module: str, arguments: Sequence[str]) -> None:
        process = await ServiceProcess.start(name, module, arguments, self._options.on_log)
        self._processes.append(process)

    async def _announcements(self) -> list[Announcement]:
        return await asyncio.gather(*(process.announcement() for process in self._processes))

    def _refuse_unable(self) -> None:
        """All stages have the same engine: what one of them can never run, no other one can.

        Raises:
            UnavailableError: one can never serve; with its reason.
        """
        for process in self._processes:
            reason = process.told.get("not_serving")
            if reason:
                raise UnavailableError(f"the {process.name} cannot serve: {reason}")

    def _stage_options(self, stage: Stage) -> list[str]:
        options = self._options
        arguments = ["--engine-threads", str(threads_per_engine()), "--log-level"]
        arguments.append(options.log_level)
        if options.device is not None:
            arguments += ["--device", options.device.value]
        arguments += ["--engine-precision", options.precision]
        for name, folder in options.models.items():
            arguments += ["--models", f"{name}={folder.absolute()}"]
        if options.bundles is not None:
            arguments += ["--bundles", str(options.bundles.absolute())]
        key = required_key(options.require_signature)
        if key is not None:
            arguments += ["--require-signature", str(key)]
        pace = options.paced_milliseconds.get(stage)
        return arguments if pace is None else [*arguments, "--paced-milliseconds", str(pace)]

    def _orchestrator_options(self) -> list[str]:
        interval = str(HEALTH_INTERVAL_SECONDS)
        arguments = ["--health-interval-seconds", interval, "--log-level", self._options.log_level]
        window, objective = self._options.window, self._options.objective
        if window is not None:
            arguments += ["--window", str(window)]
        return arguments if objective is None else [*arguments, "--objective", objective]

    def _security(self, identity: Identity) -> list[str]:
        """What secures a service; only the orchestrator is ever reached from elsewhere."""
        folder = self._options.certificates
        if folder is None:
            return ["--insecure"] if self._options.insecure else []
        return tls_arguments(folder, identity)

    def _credentials(self) -> Credentials | None:
        """By which this process asks the orchestrator for its status."""
        folder = self._options.certificates
        if folder is None:
            return None
        own = folder / "operator"
        return Credentials(
            ca=own / "peers-ca.crt",
            certificate=own / "operator.crt",
            key=own / "operator.key",
            server_name=ORCHESTRATOR.server_name,
        )

    async def _wait_until_available(self) -> None:
        reasons = ""
        try:
            async with (
                asyncio.timeout(_AVAILABLE_TIMEOUT_SECONDS),
                DetectorClient(
                    self.orchestrator.address, credentials=self._credentials()
                ) as client,
            ):
                async for status in client.watch_status(_AVAILABLE_POLL_SECONDS):
                    reasons = "; ".join(p.reason for p in status.placements if not p.available)
                    if not reasons and all(p.available for p in status.placements):
                        return
        except TimeoutError as error:
            raise UnavailableError(f"not every placement can be served: {reasons}") from error

    async def _stop(self) -> None:
        # The orchestrator goes first, so that it does not report stages that we stop as lost.
        with contextlib.suppress(IndexError):
            await self._processes[0].stop()
        await asyncio.gather(*(process.stop() for process in self._processes[1:]))
        self._processes.clear()


_RANGE = range(15_000, 32_000)
_TRIES = 1000


def free_ports(count: int, host: str) -> list[int]:
    """Distinct ports that nothing listens on.

    Raises:
        OSError: there are not that many, or `host` is no address of this machine.
    """
    chosen: list[int] = []
    for port in random.sample(_RANGE, _TRIES):
        if len(chosen) == count:
            break
        if _is_free(port, host):
            chosen.append(port)
    if len(chosen) < count:
        raise OSError(f"no {count} free ports on {host}")
    return chosen


def _is_free(port: int, host: str) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
