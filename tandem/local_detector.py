"""Detection in this process, without services.

    with LocalDetector("models/demo-r50") as detector:
        for result in detector.detect(frames):
            for detection in result.detections:
                print(result.frame_id, detection.category_name, detection.score, detection.box)

Frames, results and errors are those of `tandem.DetectorClient`.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from common.bundle import Bundle, load_bundle
from common.domain.detections import DEFAULT_SCORE_THRESHOLD, Detection, DetectionOptions
from common.domain.errors import InvalidInputError
from common.domain.frames import Image
from common.domain.placement import Stage
from common.engines.base import CompileOptions, Device, Engine, Precision
from common.engines.registry import load_engine
from common.vision.limits import DEFAULT_MAX_PIXELS
from services.pipeline.precision import PrecisionWish, PrecisionWishes, choose_precision
from services.pipeline.shapes import compile_options
from tandem.passage import Passage, Run
from tandem.pictures import Frame, as_image, refuse_single_frame
from tandem.result_tracks import ResultTracks
from tandem.results import FrameResult, VideoResult
from tandem.signatures import required_key
from tandem.threads import WorkerThread, answered_in_order, threads_per_engine

T = TypeVar("T")
Load = Callable[[Path, CompileOptions, str], Engine]

# One in each thread, and one that waits for its turn.
_MOST_IN_FLIGHT = 4
# For the frames in hand, at the end: a thread that is in an engine when the interpreter ends can
# take the process down with it.
_CLOSE_SECONDS = 10.0


class LocalDetector:
    """A model that runs in this process: pictures in, detections out.

    Three threads prepare one frame, run the backbone on the one before and the transformer on the
    one before that. Features pass between the halves as they are: what comes out is what services
    answer with the codec `fp32`, within rounding.

    Every error is a `TandemError` whose text is a sentence for the user. Use it as a context
    manager, or `close` it, to release the engines at a time of your choice.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        *,
        engine: str = "onnxruntime",
        device: Device | str | None = None,
        precision: Precision | str = PrecisionWish.AUTO.value,
        engine_threads: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        require_signature: Path | str | None = None,
    ) -> None:
        """Load both halves; takes about a second, or minutes if the engine compiles them first.

        Args:
            bundle: folder of the model.
            engine: what executes the halves; see `--engine` of the services.
            device: where the engine computes, such as `cuda`; None for the engine's usual one,
                which is the CPU for all but TensorRT.
            precision: what an engine with a choice computes in: `fp32` or `fp16`; `auto`, which
                is what the model recommends where the engine can, and otherwise fp32; or by half,
                such as `backbone=fp16,transformer=fp32`.
            engine_threads: CPU threads of each engine; None: half of the cores that this process
                may use, since both engines run at the same time; 0 lets the engine choose.
            max_pixels: a frame with more, width times height, is refused before it is decoded.
            require_signature: file of the public key by which the folder's `bundle.json` has to be
                signed; None: the one that `TANDEM_REQUIRE_SIGNATURE` names, if it is set.

        Raises:
            ConfigurationError: there is no valid or no signed bundle, or the engine, or what the
                device needs, is unknown or not installed.
            InvalidInputError: that is no precision.
            UnsupportedGraphError: the engine lacks an operator of a half.
            EngineError: the engine cannot load a half.
        """
        self._bundle = (
            bundle
            if isinstance(bundle, Bundle)
            else load_bundle(bundle, required_key(require_signature))
        )
        self._max_pixels = max_pixels
        threads = threads_per_engine() if engine_threads is None else engine_threads
        where = None if device is None else Device(device)

        def load(path: Path, options: CompileOptions, sha256: str) -> Engine:
            return load_engine(engine, path, threads, options, where, sha256=sha256)

        told = precision.value if isinstance(precision, Precision) else precision
        wishes = PrecisionWishes.parse(told)
        chosen = [
            choose_precision(self._bundle.manifest, stage, wishes, engine, where).precision
            for stage in Stage
        ]
        self._preparing = WorkerThread("prepare")
        self._backbone, self._transformer = (
            _EngineThread(self._bundle, stage, each, load)
            for stage, each in zip(Stage, chosen, strict=True)
        )
        self._end = weakref.finalize(self, _end, self._preparing, self._backbone, self._transformer)
        try:
            self._backbone.wait_until_loaded()
            self._transformer.wait_until_loaded()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """The detector is ready as soon as it is made."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the engines."""
        self.close()

    def close(self) -> None:
        """Release the engines once they are done with the frame in hand; harmless if repeated."""
        self._end()

    def detect(
        self,
        frames: Iterable[Frame],
        *,
        score_threshold: float = DEFAULT_SCORE_THRESHOLD,
        max_detections: int = 0,
        track: bool = False,
    ) -> Iterator[FrameResult]:
        """Detect in frames; yields one result a frame, in order.

        Frames are read in a thread of their own, a few ahead of the results, so memory stays
        bounded however long the source. One that cannot be decoded gets its error, and the others
        go on. Leaving the loop early ends the reading.

        Args:
            frames: any iterable of JPEG or PNG bytes, of arrays (HxWx3, uint8, RGB), or of
                `EncodedImage` and `RawImage`; closed at the end if it can be.
            score_threshold: detections below it are left out, 0 to 1.
            max_detections: at most this many a frame, the highest scores first; 0: all.
            track: number the objects: detections of the same object have the same `track_id`.

        Raises:
            InvalidInputError: an argument or a frame is malformed, or the source failed; results
                of the frames before come first.
            PreconditionError: tracks are asked for, and the library for them is not installed.
        """
        if not self._end.alive:
            raise RuntimeError("LocalDetector is used after it was closed")
        refuse_single_frame(frames)
        if not 0 <= score_threshold <= 1:
            raise InvalidInputError(f"score_threshold {score_threshold} is not within 0 to 1")
        if max_detections < 0:
            raise InvalidInputError(f"max_detections is {max_detections}, not 0 or more")
        wanted = DetectionOptions(score_threshold, max_detections)
        tracks = ResultTracks(wanted) if track else None
        options = wanted if tracks is None else tracks.options
        results = answered_in_order(
            frames, lambda number, frame: self._submit(number, frame, options), _MOST_IN_FLIGHT
        )
        return results if tracks is None else tracks.added(results)

    def detect_video(
        self,
        source: str,
        *,
        with_pixels: bool = False,
        score_threshold: float = DEFAULT_SCORE_THRESHOLD,
        max_detections: int = 0,
        track: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Iterator[VideoResult]:
        """Detect in a video, or in pictures; yields one result a frame, in order.

        Frames are decoded here, and not compressed again. Of a camera every frame is answered, so
        that they come late where it is faster than the model: for the newest one, take a running
        system and `DetectorClient.detect_video`.

        Args:
            source: path of a video, a picture or a folder, a camera's number, or a URL.
            with_pixels: results have the pixels of their frames.
            score_threshold: as for `detect`.
            max_detections: likewise.
            track: likewise.
            tell: called, from any thread, with a sentence when something goes wrong with the source
                and it goes on.

        Raises:
            InvalidInputError: there is no such source, it holds nothing that can be read, or an
                argument is malformed.
            UnavailableError: the camera does not answer, or did not come back in time.
        """
        # Who reads no video needs nothing of FFmpeg.
        from tandem.video import pixels_of_video, results_of_local_video

        opening = pixels_of_video(source, tell)

        def serve(pictures: Iterator[Image]) -> Iterator[FrameResult]:
            return self.detect(
                pictures,
                score_threshold=score_threshold,
                max_detections=max_detections,
                track=track,
            )

        return results_of_local_video(serve, opening, with_pixels)

    def detect_one(
        self,
        frame: Frame,
        *,
        score_threshold: float = DEFAULT_SCORE_THRESHOLD,
        max_detections: int = 0,
    ) -> tuple[Detection, ...]:
        """What one picture shows, the highest score first; arguments as for `detect`.

        Raises:
            TandemError: the picture cannot be served.
        """
        results = self.detect(
            [frame], score_threshold=score_threshold, max_detections=max_detections
        )
        (result,) = results
        if result.error is not None:
            raise result.error
        return result.detections

    def _submit(self, number: int, frame: Frame, options: DetectionOptions) -> Future[FrameResult]:
        """Queue a frame's three steps, each on its own thread; each waits for the one before."""
        passage = Passage(number, self._bundle.manifest, self._max_pixels, options)
        image = as_image(frame)
        prepared = self._preparing.call(lambda: passage.prepare(image))
        features = self._backbone.call(lambda run: passage.run_backbone(run, prepared.result()))
        answer = self._transformer.call(lambda run: passage.finish(run, features))

        def cancel_steps(done: Future[FrameResult]) -> None:
            if done.cancelled():
                prepared.cancel()
                features.cancel()

        answer.add_done_callback(cancel_steps)
        return answer


class _EngineThread:
    """The one thread that loads, runs and closes an engine, as some engines ask for."""

    def __init__(self, bundle: Bundle, stage: Stage, precision: Precision, load: Load) -> None:
        self._thread = WorkerThread(stage.value)

        options = compile_options(bundle.manifest, stage, precision, None)

        def loaded() -> Engine:
            path = bundle.onnx_path(stage)
            return load(path, options, bundle.sha256(path.name))

        self._engine = self._thread.call(loaded)

    def wait_until_loaded(self) -> None:
        self._engine.result()

    def call(self, function: Callable[[Run], T]) -> Future[T]:
        return self._thread.call(lambda: function(self._engine.result().run))

    def end(self) -> None:
        self._thread.call(lambda: self._engine.result().close())
        self._thread.end()

    def join(self, timeout_seconds: float) -> None:
        self._thread.join(timeout_seconds)


def _end(*threads: WorkerThread | _EngineThread) -> None:
    for thread in threads:
        thread.end()
    deadline = time.monotonic() + _CLOSE_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
