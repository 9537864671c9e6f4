"""A system whose processes each run where a plan says."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.camera import Answer, CameraPlan
from benchmarks.hosts import LOCAL_EDGE, LOCAL_WORKSTATION, LOOPBACK, Host
from common.domain.placement import Stage
from tandem.cluster import free_ports
from tandem.processes import Announcement, ServiceProcess

# Stages start before the orchestrator, which may find one late on a busy machine.
_HEALTH_INTERVAL_SECONDS = 0.1
_QUIET = ["--metrics-port", "0", "--log-level", "warning"]


@dataclass(frozen=True)
class ClusterPlan:
    """What to run where.

    Attributes:
        bundle: folder of the model.
        edge: the edge node.
        workstation: the workstation node.
        cameras: where orchestrator and clients run.
        engine: of all stages.
        paced_milliseconds: simulated duration of an execution of each stage that it names.
        delay_milliseconds: added to each way between the nodes.
        used: the stages that are started, each as node and stage; None: both on both nodes.
        extra: more arguments of a stage's service, by node and stage.
        orchestrator: more arguments of the orchestrator.
    """

    bundle: Path
    edge: Host = LOCAL_EDGE
    workstation: Host = LOCAL_WORKSTATION
    cameras: Host = LOCAL_EDGE
    engine: str = "onnxruntime"
    paced_milliseconds: Mapping[Stage, float] = field(default_factory=dict)
    delay_milliseconds: float = 0.0
    used: Collection[tuple[str, Stage]] | None = None
    extra: Mapping[tuple[str, Stage], Sequence[str]] = field(default_factory=dict)
    orchestrator: Sequence[str] = ()

    @property
    def stages(self) -> list[tuple[Host, Stage]]:
        """Every stage that is started, and its host."""
        return [
            (host, stage)
            for host in (self.edge, self.workstation)
            for stage in Stage
            if self.used is None or (host.node, stage) in self.used
        ]


class Cluster:
    """The plan's stages and the orchestrator; an asynchronous context manager.

    Attributes:
        orchestrator: where it listens; set while the cluster runs.
        stages: the stages' processes, in the plan's order; set while the cluster runs.
    """

    orchestrator: Announcement
    stages: list[Announcement]

    def __init__(self, plan: ClusterPlan) -> None:
        """Prepare; nothing is started yet."""
        self._plan = plan
        self._ports = free_ports(2 * len(plan.stages), LOOPBACK)
        self._processes: list[ServiceProcess] = []

    async def __aenter__(self) -> Self:
        """Start all and wait until they are healthy."""
        try:
            if self._plan.delay_milliseconds:
                await self._start_delays()
            await self._start_stages()
            await self._start_orchestrator()
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
        """Stop and reap all."""
        await self._stop()

    async def stream(self, plan: CameraPlan) -> list[Answer]:
        """Run clients where the cameras are; see `benchmarks.camera.stream`."""
        output = await self._plan.cameras.run(
            "benchmarks.camera", self.orchestrator.address, json.dumps(asdict(plan))
        )
        return [Answer(**answer) for answer in json.loads(output)]

    async def _start_delays(self) -> None:
        """On each node a proxy to the other's stages."""
        for viewer in (self._plan.edge, self._plan.workstation):
            ways = [
                f"{self._proxy_port(index)}={host.address}:{self._ports[index]}"
                for index, (host, _) in enumerate(self._plan.stages)
                if host.node != viewer.node
            ]
            arguments = [str(self._plan.delay_milliseconds), *ways]
            process = await viewer.start("delay", "benchmarks.delay", arguments)
            self._processes.append(process)
            await process.announcement()

    async def _start_stages(self) -> None:
        started = []
        for index, (host, stage) in enumerate(self._plan.stages):
            arguments = self._stage_arguments(host, stage, self._ports[index])
            name, module = f"{host.node} {stage.value}", f"services.{stage.value}"
            started.append(await host.start(name, module, arguments))
        self._processes += started
        self.stages = [await process.announcement() for process in started]

    async def _start_orchestrator(self) -> None:
        cameras = self._plan.cameras
        with tempfile.TemporaryDirectory(prefix="tandem-") as folder:
            config = Path(folder) / "nodes.yaml"
            config.write_text(_nodes_file(self._seen_from(cameras)), encoding="utf-8")
            arguments = ["--config", str(config), "--host", cameras.address, "--port", "0", *_QUIET]
            arguments += self._plan.orchestrator
            process = await cameras.start("orchestrator", "services.orchestrator", arguments)
            # First, so that it does not report stages that we stop as lost.
            self._processes.insert(0, process)
            self.orchestrator = await process.announcement()

    def _stage_arguments(self, host: Host, stage: Stage, port: int) -> list[str]:
        plan = self._plan
        arguments = [
            *("--bundle", str(plan.bundle.resolve()), "--node", host.node),
            *("--host", host.address, "--port", str(port), *_QUIET),
            *("--engine", plan.engine, "--engine-threads", "1"),
        ]
        if stage in plan.paced_milliseconds:
            arguments += ["--paced-milliseconds", str(plan.paced_milliseconds[stage])]
        if stage is Stage.BACKBONE:
            seen = self._seen_from(host)
            transformers = {n: a for (n, s), a in seen.items() if s is Stage.TRANSFORMER}
            arguments += ["--transformers", json.dumps(transformers)]
        return [*arguments, *plan.extra.get((host.node, stage), ())]

    def _seen_from(self, viewer: Host) -> dict[tuple[str, Stage], str]:
        """Addresses of all stages; with a delay, the other node's are those of proxies to them."""
        addresses = {}
        for index, (host, stage) in enumerate(self._plan.stages):
            delayed = self._plan.delay_milliseconds and host.node != viewer.node
            addresses[host.node, stage] = (
                f"{LOOPBACK}:{self._proxy_port(index)}"
                if delayed
                else f"{host.address}:{self._ports[index]}"
            )
        return addresses

    def _proxy_port(self, index: int) -> int:
        return self._ports[len(self._plan.stages) + index]

    async def _stop(self) -> None:
        for process in self._processes[:1]:
            await process.stop()
        await asyncio.gather(*(process.stop() for process in self._processes[1:]))
        self._processes.clear()


def _nodes_file(addresses: Mapping[tuple[str, Stage], str]) -> str:
    """The orchestrator's file of the stages that there are; JSON, which YAML contains."""
    nodes: dict[str, dict[str, str]] = {}
    for (node, stage), address in addresses.items():
        nodes.setdefault(node, {})[stage.value] = address
    return json.dumps({"nodes": nodes, "health_interval_seconds": _HEALTH_INTERVAL_SECONDS})
