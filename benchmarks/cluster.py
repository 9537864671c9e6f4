"""A system whose processes each run where a plan says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.camera import Answer, CameraPlan
from benchmarks.hosts import LOCAL_EDGE, LOCAL_WORKSTATION, LOOPBACK, Host
from common.domain.placement import Stage
from common.security.identity import Identity, Role
from services.arguments import orchestrator_arguments, stage_arguments
from tandem.cluster import (
    HEALTH_INTERVAL_SECONDS,
    ClusterOptions,
    LocalCluster,
    RunningStage,
    free_ports,
)

_QUIET = ("--log-level", "warning")


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
        certificates: folder of an authority, as of `LocalCluster`; None: no TLS.
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
    certificates: Path | None = None

    @property
    def stages(self) -> list[tuple[Host, Stage]]:
        """Every stage that is started, and its host."""
        return [
            (host, stage)
            for host in (self.edge, self.workstation)
            for stage in Stage
            if self.used is None or (host.node, stage) in self.used
        ]


class Cluster(LocalCluster):
    """The plan's stages and the orchestrator; an asynchronous context manager.

    A `LocalCluster` whose services run on the plan's hosts. Not every placement need be possible.
    """

    def __init__(self, plan: ClusterPlan) -> None:
        """Prepare; nothing is started yet."""
        super().__init__(ClusterOptions(plan.bundle, certificates=plan.certificates))
        self._plan = plan
        self._ports = free_ports(2 * len(plan.stages), LOOPBACK)

    async def stream(self, plan: CameraPlan) -> list[Answer]:
        """Run clients where the cameras are; see `benchmarks.camera.stream`."""
        output = await self._plan.cameras.run(
            "benchmarks.camera", self.orchestrator.address, json.dumps(asdict(plan))
        )
        return [Answer(**answer) for answer in json.loads(output)]

    async def _start(self) -> None:
        if self._plan.delay_milliseconds:
            await self._start_delays()
        delays = len(self._processes)
        for (host, stage), port in zip(self._plan.stages, self._ports, strict=False):
            arguments = self._stage_arguments(host, stage, f"{host.address}:{port}")
            await self._launch_at(host, f"{host.node} {stage.value}", stage.value, arguments)
        stages = self._processes[delays:]
        told = await asyncio.gather(*(each.announcement() for each in stages))
        self.stages = tuple(
            RunningStage(host.node, stage, announcement)
            for (host, stage), announcement in zip(self._plan.stages, told, strict=True)
        )
        await self._start_orchestrator()

    async def _start_delays(self) -> None:
        """On each node a proxy to the other's stages."""
        for viewer in (self._plan.edge, self._plan.workstation):
            links = [
                f"{self._proxy_port(index)}={host.address}:{self._ports[index]}"
                for index, (host, _) in enumerate(self._plan.stages)
                if host.node != viewer.node
            ]
            arguments = [str(self._plan.delay_milliseconds), *links]
            self._processes.append(await viewer.start("delay", "benchmarks.delay", arguments))
            await self._processes[-1].announcement()

    async def _start_orchestrator(self) -> None:
        cameras = self._plan.cameras
        arguments = [
            *orchestrator_arguments(f"{cameras.address}:0", self._seen_from(cameras)),
            *("--health-interval-seconds", str(HEALTH_INTERVAL_SECONDS)),
            *(*_QUIET, *_exposed(cameras), *self._plan.orchestrator),
        ]
        process = await cameras.start("orchestrator", "services.orchestrator", arguments)
        # First, so that it does not report stages that we stop as lost.
        self._processes.insert(0, process)
        self.orchestrator = await process.announcement()

    async def _launch_at(self, host: Host, name: str, stage: str, arguments: list[str]) -> None:
        self._processes.append(await host.start(name, f"services.{stage}", arguments))

    def _stage_arguments(self, host: Host, stage: Stage, address: str) -> list[str]:
        plan = self._plan
        arguments = [
            *stage_arguments(plan.bundle, host.node, stage, address, self._seen_from(host)),
            *("--engine", plan.engine, "--engine-threads", "1", *_QUIET, *_exposed(host)),
        ]
        if stage in plan.paced_milliseconds:
            arguments += ["--paced-milliseconds", str(plan.paced_milliseconds[stage])]
        arguments += self._security(Identity(Role(stage.value), host.node))
        return [*arguments, *plan.extra.get((host.node, stage), ())]

    def _seen_from(self, viewer: Host) -> dict[tuple[str, Stage], list[str]]:
        """Addresses of all stages; with a delay, the other node's are those of proxies to them."""
        addresses = {}
        for index, (host, stage) in enumerate(self._plan.stages):
            delayed = self._plan.delay_milliseconds and host.node != viewer.node
            addresses[host.node, stage] = [
                f"{LOOPBACK}:{self._proxy_port(index)}"
                if delayed
                else f"{host.address}:{self._ports[index]}"
            ]
        return addresses

    def _proxy_port(self, index: int) -> int:
        return self._ports[len(self._plan.stages) + index]


def _exposed(host: Host) -> tuple[str, ...]:
    """What a service needs to listen on a link of its own, where there is nobody else."""
    return () if host.address == LOOPBACK else ("--insecure",)
