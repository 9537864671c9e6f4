"""One camera: its pictures go to the orchestrator, its answers to the feed, whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import structlog

from common.domain.detections import OverloadPolicy
from common.domain.errors import TandemError
from common.domain.frames import RawImage
from common.domain.redaction import fit_to_show, masked, masked_url
from common.domain.video import AccessUnit, VideoFormat
from services.gateway.cameras.configuration import CameraOptions
from services.gateway.cameras.feed import CameraCondition, CameraFeed, CameraFrame, CameraState
from services.gateway.cameras.metrics import CameraMetrics
from services.gateway.cameras.pictures import CameraPictures, ReadFrame
from services.gateway.cameras.statistics import CameraStatistics
from tandem.client import DetectorClient
from tandem.feed import Content, answered
from tandem.result_tracks import TrackNumbers
from tandem.results import FrameResult

log = structlog.get_logger()

# Read and not answered yet; each holds its picture, to be shown with its boxes. Access units are
# small, and most of them wait for an older one's answer only.
_MOST_PICTURES_IN_FLIGHT, _MOST_UNITS_IN_FLIGHT = 32, 256
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 10.0
# The slowest folder shows a picture more often.
_SILENT_SECONDS = 10.0
# After so long a time with pictures, what was wrong before counts no more.
_STEADY_SECONDS = 30.0


class Camera:
    """Reads one camera until it is cancelled; what goes wrong with it is its own concern."""

    def __init__(
        self,
        options: CameraOptions,
        client: DetectorClient,
        feed: CameraFeed,
        metrics: CameraMetrics,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            options: of the camera.
            client: of the orchestrator.
            feed: that is told of each frame.
            metrics: that count them.
        """
        self._options = options
        self._client = client
        self._feed = feed
        self._metrics = metrics
        self._statistics = CameraStatistics()
        self._condition = CameraCondition.CONNECTING
        self._reason = ""
        self._noted = ""
        self._number = 0
        self._tracks = TrackNumbers()
        metrics.up.labels(options.name).set_function(self._is_running)

    def state(self) -> CameraState:
        """How it is now."""
        counted = self._statistics
        condition, reason = self._condition, self._reason
        if condition is CameraCondition.RUNNING and not self._is_running():
            condition = CameraCondition.LOST
            reason = f"no frame was answered for {counted.silent_seconds:.0f} s"
        return CameraState(
            name=self._options.name,
            source=masked_url(self._options.url),
            condition=condition,
            reason=reason,
            frames_per_second=counted.frames_per_second,
            latency_seconds=counted.latency_seconds,
            frames=counted.frames,
            dropped=counted.dropped,
            failed=counted.failed,
            reports=self._options.reports,
        )

    def _is_running(self) -> bool:
        is_silent = self._statistics.silent_seconds > _SILENT_SECONDS
        return self._condition is CameraCondition.RUNNING and not is_silent

    async def run(self) -> None:
        """Read the camera, and open it again after a growing wait whenever it is lost."""
        wait_seconds = _FIRST_WAIT_SECONDS
        while True:
            began = time.monotonic()
            try:
                await self._stream()
            except TandemError as error:
                self._lose(fit_to_show(masked(str(error))))
            except Exception:
                # A fault of ours, or of a library, with one camera is no reason to end the others.
                log.exception("camera failed", camera=self._options.name)
                self._lose("it failed for a reason that the gateway's log tells")
            if time.monotonic() - began > _STEADY_SECONDS:
                wait_seconds = _FIRST_WAIT_SECONDS
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)

    async def _stream(self) -> None:
        """Stream until the camera or the orchestrator is lost.

        Raises:
            TandemError: one of them is.
        """
        loop = asyncio.get_running_loop()

        def tell(sentence: str) -> None:
            loop.call_soon_threadsafe(self._note, fit_to_show(masked(sentence)))

        pictures = CameraPictures(self._options, tell)
        self._tracks.stream_lost()
        answers = answered(self._detect, iter(pictures))
        try:
            async for frame, result in answers:
                if not isinstance(frame, ReadFrame):
                    raise TypeError(f"{frame.name} was not read from the camera")
                found = self._tracks.of(result.detections)
                self._take(frame, replace(result, detections=found))
        finally:
            pictures.close()
            await answers.aclose()

    def _detect(
        self, contents: Iterator[Content], video: VideoFormat | None
    ) -> AsyncIterator[FrameResult]:
        options = self._options
        return self._client.detect(
            contents,
            placement=options.requested_pair,
            score_threshold=options.threshold,
            overload=OverloadPolicy.DROP_OLDEST,
            max_in_flight=_MOST_PICTURES_IN_FLIGHT if video is None else _MOST_UNITS_IN_FLIGHT,
            track=options.track,
            video=video,
            model=options.model,
        )

    def _take(self, frame: ReadFrame, result: FrameResult) -> None:
        content = frame.content
        if isinstance(content, TandemError):
            self._note(fit_to_show(f"{frame.name}: {content}"))
            return
        is_left_out = isinstance(content, AccessUnit) and content.decode_only
        self._count(result, frame.read_at_seconds, is_left_out=is_left_out)
        # Of pictures, one that was dropped is of no use to anybody.
        if result.dropped and frame.video is None:
            return
        if isinstance(content, RawImage):
            raise TypeError(f"{frame.name} is not encoded")
        self._number += 1
        self._feed.publish(
            CameraFrame(
                camera=self._options.name,
                number=self._number,
                picture=content,
                result=result,
                read_at_seconds=frame.read_at_seconds,
                latency_seconds=time.time() - frame.read_at_seconds,
                video=frame.video,
            )
        )

    def _count(self, result: FrameResult, read_at_seconds: float, *, is_left_out: bool) -> None:
        """Count an answer; a frame that was not to be looked at was not dropped either."""
        name, counted = self._options.name, self._statistics
        if result.error is not None:
            counted.failed += 1
            self._metrics.count(name, "error")
            self._note(fit_to_show(str(result.error)))
        elif not result.dropped:
            latency_seconds = time.time() - read_at_seconds
            counted.note_detections(latency_seconds)
            self._metrics.count(name, "detections")
            self._metrics.latency.labels(name).observe(latency_seconds)
            self._noted = ""
            self._change(CameraCondition.RUNNING, "")
        elif not is_left_out:
            counted.dropped += 1
            self._metrics.count(name, "dropped")

    def _lose(self, reason: str) -> None:
        log.warning("camera lost", camera=self._options.name, reason=reason)
        self._change(CameraCondition.LOST, reason)

    def _note(self, sentence: str) -> None:
        """Something went wrong, and the camera goes on."""
        # What is wrong with a group of video is wrong with each frame of it.
        if sentence != self._noted:
            log.warning("camera", camera=self._options.name, told=sentence)
        self._noted = sentence
        if self._statistics.frames_per_second == 0:
            is_new = self._condition is CameraCondition.CONNECTING
            self._change(CameraCondition.CONNECTING if is_new else CameraCondition.LOST, sentence)

    def _change(self, condition: CameraCondition, reason: str) -> None:
        if condition is CameraCondition.RUNNING and self._condition is not condition:
            log.info("camera runs", camera=self._options.name)
        self._condition, self._reason = condition, reason
