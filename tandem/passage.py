"""One frame's steps through a model that runs in this process, and what each of them took."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from common.bundle import Manifest
from common.domain.detections import Detection, DetectionOptions, FrameTiming, StageTiming
from common.domain.errors import ResourceExhaustedError, TandemError
from common.domain.frames import FrameGeometry, Image
from common.vision.decode import decode_image
from common.vision.position import inputs_beside_cut
from common.vision.postprocess import detections
from common.vision.preprocess import preprocess
from tandem.results import FrameResult

LOCAL_NODE = "local"
"""What the timing of a frame that was served in this process calls its node."""


@dataclass(frozen=True)
class PreparedFrame:
    """One frame, ready for the backbone."""

    pixels: np.ndarray
    geometry: FrameGeometry
    ready_at: float
    decode_seconds: float
    preprocess_seconds: float


@dataclass(frozen=True)
class FrameFeatures:
    """One frame between the halves."""

    features: dict[str, np.ndarray]
    geometry: FrameGeometry
    ready_at: float
    timing: StageTiming


Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
"""Executes a half: arrays by input name to arrays by output name."""


class Passage:
    """One frame on its way through the threads; times are by `time.perf_counter`."""

    def __init__(
        self, number: int, manifest: Manifest, max_pixels: int, options: DetectionOptions
    ) -> None:
        """Begin to count the frame's time.

        Args:
            number: position of the frame in its stream.
            manifest: of the bundle.
            max_pixels: upper limit of the frame's width times height.
            options: which detections are wanted.
        """
        self._number = number
        self._manifest = manifest
        self._max_pixels = max_pixels
        self._options = options
        self._received_at_seconds = time.time()
        self._began = time.perf_counter()

    def prepare(self, image: Image) -> PreparedFrame:
        """From the caller's bytes to the backbone's input."""
        started = time.perf_counter()
        rgb = decode_image(image, self._max_pixels)
        decoded = time.perf_counter()
        pixels, geometry = preprocess(rgb, self._manifest.input, self._manifest.normalization)
        ended = time.perf_counter()
        return PreparedFrame(pixels, geometry, ended, decoded - started, ended - decoded)

    def run_backbone(self, run: Run, prepared: PreparedFrame) -> FrameFeatures:
        """From the backbone's input to features, `[1,channels,rows,columns]` by name."""
        started = time.perf_counter()
        features = run({"pixels": prepared.pixels})
        ended = time.perf_counter()
        timing = StageTiming(
            node=LOCAL_NODE,
            decode_seconds=prepared.decode_seconds,
            preprocess_seconds=prepared.preprocess_seconds,
            queue_seconds=started - prepared.ready_at,
            execute_seconds=ended - started,
            received_at_seconds=self._received_at_seconds,
            execute_after_seconds=started - self._began,
        )
        return FrameFeatures(features, prepared.geometry, ended, timing)

    def finish(self, run: Run, coming: Future[FrameFeatures]) -> FrameResult:
        """Run the transformer and answer; an error on any of the threads becomes the answer."""
        try:
            backbone = coming.result()
            found, transformer = self._run_transformer(run, backbone)
        except TandemError as error:
            # Its traceback would keep the frame's arrays for as long as the caller keeps the error.
            error.__cause__ = error.__context__ = error.__traceback__ = None
            return self._result((), error, None, None)
        except MemoryError:
            fault = ResourceExhaustedError("there is not enough memory for this frame")
            return self._result((), fault, None, None)
        return self._result(found, None, backbone.timing, transformer)

    def _run_transformer(
        self, run: Run, backbone: FrameFeatures
    ) -> tuple[tuple[Detection, ...], StageTiming]:
        received = time.perf_counter()
        manifest, geometry = self._manifest, backbone.geometry
        beside = inputs_beside_cut(manifest, geometry)
        started = time.perf_counter()
        outputs = run({**backbone.features, **beside})
        executed = time.perf_counter()
        logits, boxes = outputs["logits"][0], outputs["boxes"][0]
        found = detections(
            logits, boxes, geometry, manifest.categories, self._options, scoring=manifest.scoring
        )
        timing = StageTiming(
            node=LOCAL_NODE,
            preprocess_seconds=started - received,
            queue_seconds=received - backbone.ready_at,
            execute_seconds=executed - started,
            postprocess_seconds=time.perf_counter() - executed,
            received_at_seconds=self._received_at_seconds + backbone.ready_at - self._began,
            execute_after_seconds=started - backbone.ready_at,
        )
        return found, timing

    def _result(
        self,
        found: tuple[Detection, ...],
        error: TandemError | None,
        backbone: StageTiming | None,
        transformer: StageTiming | None,
    ) -> FrameResult:
        seconds = time.perf_counter() - self._began
        timing = FrameTiming(backbone, transformer, seconds, self._received_at_seconds)
        return FrameResult(self._number, found, error, False, None, timing, seconds)
