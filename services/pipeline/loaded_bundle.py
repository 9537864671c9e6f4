"""Loads a bundle's half into a stage's memory, beside those that are there, and releases it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Awaitable, Callable, Dict, Generic, Set, TypeVar

import structlog

from common.bundle import Bundle
from common.domain.errors import UnsupportedGraphError
from common.domain.placement import Stage
from common.engines.base import Engine
from common.server.budget import FrameCost, return_free_memory
from common.server.server import ServiceServer
from services.pipeline.core import StageCore
from services.pipeline.engine_thread import CLOSE_SECONDS, EngineThread
from services.pipeline.execution_turn import ExecutionTurn, Place
from services.pipeline.frame_cost import frame_cost
from services.pipeline.loading import load_stage_engine
from services.pipeline.passage import Pipeline
from services.pipeline.settings import StageSettings
from services.pipeline.watchdog import Watchdog
from services.pipeline.workers import Workers

log = structlog.get_logger()

Core = TypeVar("Core", bound=StageCore[Any, Any, Any, Any])

# For an engine that is being loaded when nobody wants it any more.
_RELEASE_SECONDS = 3600.0


class LoadedBundle(Generic[Core]):
    """A bundle in memory, and what its frames pass; they are executed with no other bundle's.

    Attributes:
        bundle: which one.
        core: what is done to its frames before and after the engine.
        cost: the memory that a frame takes while it is worked on.
        pipeline: takes them through it; its engine is loaded and warmed up.
        streams: how many are served with it.
        holds: how many deployments want it to stay that are not complete.
        was_opened: whether a stream was opened with it, so that the other half has it as well.
        out_of_order: why it cannot serve; empty while it can.
    """

    def __init__(
        self,
        bundle: Bundle,
        core: Core,
        pipeline: Pipeline[Any, Any, Any, Any],
        cost: FrameCost,
    ) -> None:
        """Nothing is loaded yet."""
        self.bundle = bundle
        self.core = core
        self.pipeline = pipeline
        self.cost = cost
        self.streams = 0
        self.holds = 0
        self.was_opened = False
        self.out_of_order = ""

    @property
    def unable(self) -> str:
        """Why its engine can never run it; empty if it can."""
        return self.pipeline.engine.unable

    @property
    def is_hanging(self) -> bool:
        """Whether an execution of its engine does not return, for which all others wait."""
        return self.pipeline.engine.stuck_seconds() > 0

    @property
    def place(self) -> Place:
        """Of its engine among those that want the device."""
        return self.pipeline.engine.place

    @property
    def name(self) -> str:
        """The bundle as logs and people are told of it."""
        return f"{self.bundle.manifest.name} ({self.bundle.digest[:12]})"


class BundleLoader(Generic[Core]):
    """Loads bundles for one stage; their engines take turns, and share the workers."""

    def __init__(
        self,
        stage: Stage,
        settings: StageSettings,
        server: ServiceServer,
        make_core: Callable[[Bundle], Core],
        tell: Callable[[LoadedBundle[Core], str], Awaitable[None]],
    ) -> None:
        """Start the workers.

        Args:
            stage: which half is served.
            settings: of the service.
            server: whose metrics count executions; it drains if a watchdog fails.
            make_core: makes what is done to a bundle's frames beside the engine.
            tell: is told why a bundle cannot serve, and the empty string once it can again.
        """
        self._stage = stage
        self._settings = settings
        self._server = server
        self._make_core = make_core
        self._tell = tell
        self._turn = ExecutionTurn()
        self._workers = Workers()
        self._watching: Dict[LoadedBundle[Core], asyncio.Task[None]] = {}
        self._releasing: Set[asyncio.Task[None]] = set()

    async def load(self, bundle: Bundle, *, even_if_unable: bool = False) -> LoadedBundle[Core]:
        """Load a bundle's half, and warm it up; frames of other bundles go on meanwhile.

        Args:
            bundle: to load.
            even_if_unable: whether to return one that the engine can never run, with the reason in
                `LoadedBundle.unable`, and raise no UnsupportedGraphError.

        Raises:
            ConfigurationError: the bundle is damaged, or the engine unknown or not installed.
            UnsupportedGraphError: the engine can never run the half.
            EngineError: the engine cannot load the half, or fails on the first frame.
        """
        loop = asyncio.get_running_loop()
        core = await loop.run_in_executor(None, self._make_core, bundle)
        engine = EngineThread(turn=self._turn)
        engine.on_executed = self._server.metrics.batches_of(self._stage.value)
        pipeline = Pipeline(core, engine, self._settings.node, self._workers)
        cost = frame_cost(bundle.manifest, self._stage, self._settings.max_batch)
        loaded = LoadedBundle(bundle, core, pipeline, cost)
        self._watch(loaded)
        try:
            await self._load_engine(loaded)
            await pipeline.warm_up()
            await pipeline.allow_batches(self._settings.batch_limits)
        except BaseException as error:
            if not (isinstance(error, UnsupportedGraphError) and even_if_unable):
                self.release(loaded)
                raise
            # It may have come out only with the first frame.
            engine.unable = str(error)
            log.error("the engine cannot run this half", bundle=loaded.name, reason=str(error))
        return loaded

    def release(self, loaded: LoadedBundle[Core]) -> None:
        """Give a bundle's memory back, once its engine has done what it is at."""
        self._unwatch(loaded)
        log.info("bundle released", stage=self._stage.value, bundle=loaded.name)
        releasing = asyncio.ensure_future(self._release(loaded.pipeline.engine))
        self._releasing.add(releasing)
        releasing.add_done_callback(self._releasing.discard)

    async def close(self, *loaded: LoadedBundle[Core], before_workers: Callable[[], None]) -> bool:
        """Release these bundles, the last ones, and end the workers.

        Args:
            loaded: all that are still loaded.
            before_workers: ends what workers may be waiting for.

        Returns:
            Whether all threads have ended.
        """
        for each in loaded:
            self._unwatch(each)
        # The engines first: they hand what they have done to the workers.
        ended = await asyncio.gather(*(each.pipeline.engine.close() for each in loaded))
        if self._releasing:
            _, late = await asyncio.wait(self._releasing, timeout=CLOSE_SECONDS)
            ended += [False] * len(late)
        before_workers()
        return self._workers.close() and all(ended)

    async def _load_engine(self, loaded: LoadedBundle[Core]) -> None:
        bundle = loaded.bundle
        load: Callable[[], Engine]
        load = partial(load_stage_engine, self._stage, self._settings, bundle)
        engine = await loaded.pipeline.engine.load(load)
        log.info(
            "engine loaded",
            stage=self._stage.value,
            node=self._settings.node,
            engine=engine.description,
            bundle=bundle.manifest.name,
            digest=bundle.digest,
        )

    def _watch(self, loaded: LoadedBundle[Core]) -> None:
        watchdog = Watchdog(
            loaded.pipeline.engine,
            reload=partial(self._load_engine, loaded),
            test=loaded.pipeline.warm_up,
            tell=partial(self._tell, loaded),
            workers_stuck_seconds=loaded.pipeline.stuck_seconds,
        )
        self._watching[loaded] = self._server.supervise(watchdog.run(), "watchdog")

    def _unwatch(self, loaded: LoadedBundle[Core]) -> None:
        watching = self._watching.pop(loaded, None)
        if watching is not None:
            watching.cancel()

    async def _release(self, engine: EngineThread) -> None:
        await engine.close(_RELEASE_SECONDS)
        await asyncio.get_running_loop().run_in_executor(None, return_free_memory)
