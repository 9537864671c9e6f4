"""From settings to a running stage: what the two stage services have in common."""

from __future__ import annotations

import asyncio
from typing import Callable, Dict, Generic, Iterable, Tuple

from common.bundle import Bundle
from common.domain.placement import Stage
from common.server.budget import ByteBudget, FrameCost
from common.server.guard import StreamGuard, StreamLimits
from common.server.server import ServiceServer
from common.telemetry.metrics import LabelNames
from protos.tandem.v1 import models_pb2_grpc
from services.pipeline.changeover import Changeover
from services.pipeline.configured_bundles import ConfiguredBundles
from services.pipeline.frame_cost import frame_cost
from services.pipeline.frame_stream import StageHost
from services.pipeline.hangup import on_hangup
from services.pipeline.loaded_bundle import BundleLoader, Core, LoadedBundle
from services.pipeline.models_servicer import ModelsServicer
from services.pipeline.settings import StageSettings
from services.pipeline.stage_bundles import StageBundles


class StageService(Generic[Core]):
    """Runs one stage: loads its bundles, warms them up, serves, changes over, and releases them.

    An engine that can never run a half, since it lacks an operator, does not end the stage, which a
    supervisor would only start again: it is there, says why it does not serve, and may be given
    another bundle.

    Attributes:
        bundles: those in memory.
    """

    def __init__(
        self,
        stage: Stage,
        settings: StageSettings,
        server: ServiceServer,
        make_core: Callable[[Bundle], Core],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve nothing yet.

        Args:
            stage: which half is served.
            settings: of the service.
            server: to which the servicer of the stage is to be added.
            make_core: makes what is done to a bundle's frames beside the engine; on any thread.
            close: ends, at the end, what frames are prepared with.

        Raises:
            ConfigurationError: a bundle is missing, damaged or not signed as it has to be.
        """
        self._stage = stage
        self._settings = settings
        self._server = server
        self._close = close
        self._background: Tuple[asyncio.Task[None], ...] = ()
        self._is_up = server.metrics.node_up.labels(settings.node, stage.value)
        self._loader = BundleLoader(stage, settings, server, make_core, self._tell)
        name = f"{stage.value} on {settings.node}"
        self.bundles: StageBundles[Core] = StageBundles(name, self._loader.release)
        configured = ConfiguredBundles(stage, settings)
        self._starting = configured.starting()
        self._changeover = Changeover(configured, self.bundles, self._loader)
        self._budget = _budget(stage, settings, (each.bundle for each in self._starting.values()))
        models = ModelsServicer(self.bundles, self._changeover, server.draining)
        server.add(models_pb2_grpc.add_ModelsServicer_to_server, models, "tandem.v1.Models")

    def host(self, senders: LabelNames) -> StageHost[Core]:
        """What the stage's servicer needs; `senders` are the metrics' names of senders."""
        host = StageHost(
            stage=self._stage,
            node=self._settings.node,
            bundles=self.bundles,
            metrics=self._server.metrics,
            traces=self._server.traces,
            guard=StreamGuard(_limits(self._settings), self._budget),
            senders=senders,
            draining=self._server.draining,
            max_frames_in_flight=self._settings.max_frames_in_flight,
        )
        self._server.tell_in_flight(lambda: host.held.count)
        self._server.metrics.in_flight.set_function(lambda: host.held.count)
        return host

    async def run(self) -> bool:
        """Load, warm up, serve until SIGTERM, release; returns whether all threads have ended.

        Raises:
            ConfigurationError: the engine is unknown, or a port cannot be bound.
            EngineError: the engine cannot be loaded, or fails on the first frame.
        """
        on_hangup(self._changeover.ask_to_reload)
        try:
            await self._server.run(self._prepare)
        finally:
            for work in self._background:
                work.cancel()
            ended = await self._loader.close(*self.bundles.loaded, before_workers=self._close)
        return ended

    async def _prepare(self) -> str:
        """Load what is configured; returns why the stage cannot serve, and nothing where it can."""
        loaded: Dict[str, LoadedBundle[Core]] = {}
        for starting in self._starting.values():
            digest = starting.bundle.digest
            if digest not in loaded:
                loaded[digest] = await self._loader.load(starting.bundle, even_if_unable=True)
        # All at once: whoever is told of some models takes it that there are no others.
        for model, starting in self._starting.items():
            self.bundles.serve(
                model, loaded[starting.bundle.digest], starting.source, starting.note
            )
        reason = self._reason()
        self._is_up.set(not reason)
        self._background = (
            self._server.supervise(self._changeover.run(), "changing over"),
            self._server.supervise(self._look_after_bundles(), "looking after bundles"),
        )
        return reason

    async def _look_after_bundles(self) -> None:
        """Have health and the budget follow what is loaded, until cancelled."""
        while True:
            changed = asyncio.ensure_future(self.bundles.wait_changed())
            self._budget.cost = _largest(loaded.cost for loaded in self.bundles.loaded)
            self._server.metrics.loaded_bundles.set(len(self.bundles.loaded))
            await self._show_health()
            await changed

    async def _tell(self, loaded: LoadedBundle[Core], reason: str) -> None:
        # What its engine can never run is no disorder of the stage.
        loaded.out_of_order = "" if reason == loaded.unable else reason
        self.bundles.order_changed()
        await self._show_health()

    async def _show_health(self) -> None:
        reason = self._reason()
        await self._server.set_serving(not reason, reason)
        self._is_up.set(not reason)

    def _reason(self) -> str:
        """Why the stage cannot serve any model; empty where it can serve one.

        What is wrong with one of several bundles is told of their models. One whose engine hangs
        counts by itself, since all others have to wait for it, also if no new stream takes it.
        """
        for each in self.bundles.loaded:
            if each.is_hanging and each.out_of_order:
                return each.out_of_order
        served = [each for each in self.bundles.loaded if self.bundles.is_served(each)]
        reasons = [each.out_of_order or each.unable for each in served]
        return next(iter(reasons), "") if all(reasons) else ""


def _limits(settings: StageSettings) -> StreamLimits:
    return StreamLimits(
        streams=settings.max_sessions,
        # All of them come from the orchestrator.
        streams_of_a_peer=settings.max_sessions,
        unopened_streams=max(1, settings.max_sessions // 4),
        silence_seconds=settings.max_silence_seconds,
    )


def _budget(stage: Stage, settings: StageSettings, bundles: Iterable[Bundle]) -> ByteBudget:
    costs = [frame_cost(each.manifest, stage, settings.max_batch) for each in bundles]
    return ByteBudget(
        settings.max_buffered_bytes,
        settings.max_message_bytes,
        _largest(costs),
        share_peers=False,
    )


def _largest(costs: Iterable[FrameCost]) -> FrameCost:
    """What a frame takes whose stream has not said yet which bundle serves it."""
    return max(costs, key=lambda cost: cost.working_bytes)
