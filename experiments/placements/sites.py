"""Where runs take place: processes of this machine, or services that run elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.hosts import Host, ShapedLink
from common.domain.errors import ConfigurationError
from common.domain.placement import EDGE, WORKSTATION, Stage
from experiments.placements.cases import Case
from experiments.placements.config import (
    UNSHAPED,
    Config,
    LocalNode,
    LocalNodes,
    RemoteNodes,
)
from experiments.placements.inputs import Model


@dataclass(frozen=True)
class System:
    """Services that are up.

    Attributes:
        orchestrator: `host:port`.
        client: where the client runs.
        samplers: where each node's memory and power are read from.
        metrics: URLs of the stages that serve the case, by node and stage.
    """

    orchestrator: str
    client: Host
    samplers: Mapping[str, Host]
    metrics: Mapping[str, Mapping[Stage, str]]


class LocalSite:
    """Starts the stages that a case uses, and the orchestrator, for each run anew.

    A stage that the case does not use is not there, so that a node's memory is that of what it
    runs, and so that repetitions share nothing.
    """

    def __init__(self, nodes: LocalNodes, cameras: str, models: Mapping[str, Model]) -> None:
        """Run `models` on `nodes`, with client and orchestrator on the node `cameras`."""
        self._nodes = nodes
        self._cameras = cameras
        self._models = models
        self._link: ShapedLink | None = None

    @contextmanager
    def network(self, shaped: bool) -> Iterator[None]:
        """What all runs share: the namespaces, if any link is shaped."""
        if not shaped:
            yield
            return
        with ShapedLink(self._nodes.edge.core, self._nodes.workstation.core) as link:
            self._link = link
            yield

    @asynccontextmanager
    async def system(self, case: Case) -> AsyncIterator[System]:
        """Start what a case needs, and stop it afterwards."""
        hosts = self._hosts(case)
        bundle = self._models[case.model].bundle
        if bundle is None:
            raise RuntimeError(f"model {case.model} has no bundle")
        plan = ClusterPlan(
            bundle.folder,
            hosts[EDGE],
            hosts[WORKSTATION],
            hosts[self._cameras],
            self._nodes.engine,
            used=case.used,
            extra={key: self._pace(case, *key) for key in case.used},
        )
        async with Cluster(plan) as cluster:
            metrics: dict[str, dict[Stage, str]] = {}
            for each in cluster.stages:
                metrics.setdefault(each.node, {})[each.stage] = each.announcement.metrics
            address = cluster.orchestrator.address
            yield System(address, hosts[self._cameras], hosts, metrics)

    def _hosts(self, case: Case) -> dict[str, Host]:
        if isinstance(case.link, str):
            return {
                EDGE: Host(EDGE, self._nodes.edge.core),
                WORKSTATION: Host(WORKSTATION, self._nodes.workstation.core),
            }
        if self._link is None:
            raise RuntimeError("a shaped link is used outside of its network")
        self._link.shape(case.link)
        return {EDGE: self._link.edge, WORKSTATION: self._link.workstation}

    def _pace(self, case: Case, node: str, stage: Stage) -> list[str]:
        plan: LocalNode = self._nodes.edge if node == EDGE else self._nodes.workstation
        if plan.simulates is None:
            return []
        milliseconds = getattr(plan.simulates.milliseconds[case.model], stage.value)
        # Of this process alone: another experiment's device is another device.
        device = f"{node}-{os.getpid()}"
        return ["--paced-milliseconds", str(milliseconds), "--paced-device", device]


class RemoteSite:
    """Services that somebody has started; nothing is started or stopped here."""

    def __init__(self, nodes: RemoteNodes) -> None:
        """Use the addresses that the configuration gives."""
        self._nodes = nodes

    @contextmanager
    def network(self, shaped: bool) -> Iterator[None]:
        """The link is what it is."""
        yield

    @asynccontextmanager
    async def system(self, case: Case) -> AsyncIterator[System]:
        """The system that runs the case's model.

        Raises:
            ConfigurationError: no metrics URL is given for a stage that the case uses.
        """
        system = self._nodes.systems[case.model]
        here = {node: Host(node, None) for node in (EDGE, WORKSTATION)}
        metrics: dict[str, dict[Stage, str]] = {}
        for node, stage in sorted(case.used):
            url = dict(system.metrics).get(node, {}).get(stage)  # type: ignore[call-overload]
            if url is None:
                raise ConfigurationError(
                    f"nodes.systems.{case.model}.metrics has no URL of the {node}'s {stage.value}"
                )
            metrics.setdefault(node, {})[stage] = url
        yield System(system.orchestrator, Host("client", None), here, metrics)


def site_of(config: Config, models: Mapping[str, Model]) -> LocalSite | RemoteSite:
    """The site that a configuration names."""
    if isinstance(config.nodes, LocalNodes):
        return LocalSite(config.nodes, config.cameras, models)
    return RemoteSite(config.nodes)


def can_shape() -> bool:
    """Whether this user may make network namespaces, and has what that takes."""
    return os.geteuid() == 0 and all(shutil.which(command) for command in ("ip", "tc"))


def with_possible_links(config: Config) -> Config:
    """Leave links unshaped where none can be shaped, if the configuration allows that.

    Raises:
        ConfigurationError: it does not.
    """
    nodes = config.nodes
    if not isinstance(nodes, LocalNodes) or config.links == (UNSHAPED,) or can_shape():
        return config
    if nodes.cannot_shape == UNSHAPED:
        return config.model_copy(update={"links": (UNSHAPED,)})
    raise ConfigurationError(
        "a shaped link needs root, and the commands ip and tc (iproute2); without them, set "
        "links: [unshaped], or nodes.cannot_shape: unshaped"
    )
