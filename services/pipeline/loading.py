"""Loads what a stage's engine thread executes: its half, and its part of a bottleneck."""

from __future__ import annotations

import structlog

from common.bundle import PART_OF, Bundle, Graph
from common.domain.errors import EngineError, UnsupportedGraphError
from common.domain.placement import Stage
from common.engines.base import Engine
from common.engines.bottleneck import BackboneWithEncoder, TransformerWithDecoder
from common.engines.paced import PacedEngine, SimulatedDevice
from common.engines.registry import load_engine
from services.pipeline.precision import choose_precision
from services.pipeline.settings import StageSettings
from services.pipeline.shapes import compile_options

log = structlog.get_logger()

# A part is a few small convolutions: more threads would wait for one another.
_MOST_PART_THREADS = 2


def load_stage_engine(stage: Stage, settings: StageSettings, bundle: Bundle) -> Engine:
    """Load a half, paced if so set, and with it its part of the bundle's bottleneck.

    Raises:
        ConfigurationError: the bundle is damaged, or the engine is unknown or not installed.
        UnsupportedGraphError: the engine lacks an operator of the half or the part.
        EngineError: the engine cannot load the half or the part.
    """
    half = _paced(_loaded(stage, settings, bundle, settings.engine_threads), settings)
    if bundle.manifest.bottleneck is None:
        return half
    try:
        threads = min(settings.engine_threads or _MOST_PART_THREADS, _MOST_PART_THREADS)
        part = _loaded(PART_OF[stage], settings, bundle, threads)
    except BaseException:
        half.close()
        raise
    joined = BackboneWithEncoder if stage is Stage.BACKBONE else TransformerWithDecoder
    return joined(half, part)


def _loaded(graph: Graph, settings: StageSettings, bundle: Bundle, threads: int) -> Engine:
    try:
        return _loaded_for(settings.max_batch, graph, settings, bundle, threads)
    except EngineError as error:
        if settings.max_batch == 1 or isinstance(error, UnsupportedGraphError):
            raise
        # A graph with a fixed batch dimension cannot be compiled for more than that. If it is
        # something else, loading for single frames fails as well, and tells that.
        log.warning("cannot load for batches", frames=settings.max_batch, error=str(error))
        return _loaded_for(1, graph, settings, bundle, threads)


def _loaded_for(
    max_batch: int, graph: Graph, settings: StageSettings, bundle: Bundle, threads: int
) -> Engine:
    chosen = choose_precision(
        *(bundle.manifest, graph, settings.precision_wishes),
        *(settings.engine, settings.engine_device),
    )
    if chosen.note:
        precision = chosen.precision.value
        log.info("precision", graph=graph.value, precision=precision, reason=chosen.note)
    options = compile_options(
        bundle.manifest, graph, chosen.precision, settings.engine_cache, max_batch
    )
    path = bundle.onnx_path(graph)
    return load_engine(
        *(settings.engine, path, threads, options, settings.engine_device),
        sha256=bundle.sha256(path.name),
    )


def _paced(engine: Engine, settings: StageSettings) -> Engine:
    if settings.paced_milliseconds <= 0:
        return engine
    name = settings.paced_device
    device = None if name is None else SimulatedDevice(name)
    seconds = settings.paced_milliseconds / 1000
    return PacedEngine(engine, seconds, device, settings.paced_batch_seconds)
