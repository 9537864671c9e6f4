"""Tandem on one machine: an edge node, a workstation node and the orchestrator as children."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from common.bundle import load_bundle
from common.domain.errors import UnavailableError
from common.domain.placement import EDGE, WORKSTATION, Stage
from tandem.client import DetectorClient
from tandem.processes import Announcement, LogSink, ServiceProcess
from tandem.threads import threads_per_engine

NODES = (EDGE, WORKSTATION)
# Stages on their own; once healthy they have to be found by the orchestrator, too.
_AVAILABLE_TIMEOUT_SECONDS = 20.0
_AVAILABLE_POLL_SECONDS = 0.1
# Stages start beside the orchestrator, which at first finds none.
_HEALTH_INTERVAL_SECONDS = 0.1
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ClusterOptions:
    """How to start a local cluster.

    Attributes:
        bundle: folder of the model that both nodes run.
        host: address that the orchestrator listens on; the stages are on loopback.
        port: port of the orchestrator; 0 picks a free one.
        paced_milliseconds: for each stage that is slowed down, the least duration of an execution.
        window: frames of a session in flight; None: the orchestrator finds its own.
        log_level: lowest level that the services log.
        on_log: called with a service's name and each line of its log.
    """

    bundle: Path
    host: str = _LOOPBACK
    port: int = 0
    paced_milliseconds: Mapping[Stage, float] = field(default_factory=dict)
    window: int | None = None
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
            ConfigurationError: there is no valid bundle.
            UnavailableError: a service did not start; with its last words.
        """
        load_bundle(self._options.bundle)
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
        with tempfile.TemporaryDirectory(prefix="tandem-") as folder:
            config = Path(folder) / "nodes.yaml"
            config.write_text(orchestrator_config(addresses), encoding="utf-8")
            await self._spawn(
                "orchestrator",
                "services.orchestrator",
                orchestrator_arguments(options, config, options.port or ports[-1]),
            )
            for node, stage in keys:
                arguments = stage_arguments(options, node, stage, addresses)
                await self._spawn(f"{node} {stage.value}", f"services.{stage.value}", arguments)
            told = await asyncio.gather(*(process.announcement() for process in self._processes))
        self.orchestrator = told[0]
        self.stages = tuple(
            RunningStage(node, stage, announcement)
            for (node, stage), announcement in zip(keys, told[1:], strict=True)
        )
        await self._wait_until_available()

    async def _spawn(self, name: str, module: str, arguments: list[str]) -> None:
        process = await ServiceProcess.start(name, module, arguments, self._options.on_log)
        self._processes.append(process)

    async def _wait_until_available(self) -> None:
        reasons = ""
        try:
            async with (
                asyncio.timeout(_AVAILABLE_TIMEOUT_SECONDS),
                DetectorClient(self.orchestrator.address) as client,
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


def stage_arguments(
    options: ClusterOptions, node: str, stage: Stage, addresses: Mapping[tuple[str, Stage], str]
) -> list[str]:
    """The command line of one stage's service."""
    host, _, port = addresses[node, stage].rpartition(":")
    arguments = [
        *("--bundle", str(options.bundle.resolve()), "--node", node),
        *("--host", host, "--port", port, "--metrics-port", "0"),
        *("--engine-threads", str(threads_per_engine())),
        *("--log-level", options.log_level),
    ]
    pace = options.paced_milliseconds.get(stage)
    if pace is not None:
        arguments += ["--paced-milliseconds", str(pace)]
    if stage is Stage.BACKBONE:
        transformers = {name: addresses[name, Stage.TRANSFORMER] for name in NODES}
        arguments += ["--transformers", json.dumps(transformers)]
    return arguments


def orchestrator_arguments(options: ClusterOptions, config: Path, port: int) -> list[str]:
    """The command line of the orchestrator's service."""
    arguments = [
        *("--config", str(config), "--host", options.host, "--port", str(port)),
        *("--metrics-port", "0", "--log-level", options.log_level),
    ]
    if options.window is not None:
        arguments += ["--window", str(options.window)]
    return arguments


def orchestrator_config(addresses: Mapping[tuple[str, Stage], str]) -> str:
    """The orchestrator's file of nodes; JSON, which YAML contains."""
    nodes = {node: {stage.value: addresses[node, stage] for stage in Stage} for node in NODES}
    return json.dumps({"nodes": nodes, "health_interval_seconds": _HEALTH_INTERVAL_SECONDS})


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
