"""Detection in a video that Tandem reads by itself."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypedDict

import numpy as np

from common.domain.codec import Codec
from common.domain.detections import OverloadPolicy
from common.domain.errors import TandemError
from common.domain.frames import EncodedImage, Image, RawImage
from common.domain.placement import NodePair, Placement
from common.domain.video import VideoFormat
from tandem.feed import Content, answered, failure
from tandem.pictures import JPEG_QUALITY
from tandem.results import FrameResult, VideoResult
from tandem.sources import (
    DEFAULT_RECONNECT_SECONDS,
    Source,
    SourceFrame,
    SourceKind,
    Tell,
    VideoForm,
    open_source,
    played,
    untold,
)
from tandem.threads import call_in_thread, complete_in_thread


class DetectOptions(TypedDict, total=False):
    """The options of `DetectorClient.detect` that a video has as well; see there."""

    placement: Placement | NodePair | str | None
    score_threshold: float
    max_detections: int
    overload: OverloadPolicy
    codec: Codec | str | None
    max_link_bits_per_second: int
    track: bool
    model: str
    max_in_flight: int | None


@dataclass(frozen=True)
class VideoOpening:
    """What to open, and how its frames are to come.

    Attributes:
        source: what a user named; see `open_source`, as for the others.
        form: how frames of what moves come.
        live: True: a file plays at its own speed as well.
        jpeg_quality: 1 to 100.
        reconnect_seconds: for how long a camera that is lost is opened anew.
        tell: called with a sentence when something goes wrong and the source goes on.
    """

    source: str
    form: VideoForm
    live: bool | None = None
    jpeg_quality: int = JPEG_QUALITY
    reconnect_seconds: float = DEFAULT_RECONNECT_SECONDS
    tell: Tell = untold

    def open(self) -> Source:
        """Open it; blocks.

        Raises:
            InvalidInputError: there is no such thing, or it holds nothing that can be read.
            UnavailableError: the camera or the stream does not answer.
        """
        source = open_source(
            self.source,
            self.jpeg_quality,
            live=self.live,
            reconnect_seconds=self.reconnect_seconds,
            tell=self.tell,
        )
        source.deliver(self.form)
        return source


Serve = Callable[..., AsyncIterator[FrameResult]]
"""`DetectorClient.detect`."""


async def results_of_video(
    serve: Serve, opening: VideoOpening, options: DetectOptions, with_pixels: bool
) -> AsyncGenerator[VideoResult, None]:
    """Open a source and have its frames served; see `DetectorClient.detect_video`."""
    with closing(await call_in_thread(opening.open)) as source:
        is_live = opening.live
        if is_live is None:
            is_live = source.info.kind is SourceKind.LIVE
        if is_live:
            options = {"overload": OverloadPolicy.DROP_OLDEST, **options}

        def detect(
            contents: Iterator[Content], video: VideoFormat | None
        ) -> AsyncIterator[FrameResult]:
            return serve(contents, video=video, **options)

        async with aclosing(answered(detect, frames_of(source, is_live))) as answers:
            async for frame, result in answers:
                if with_pixels:
                    # Decoding must not hold up the streams of this loop.
                    yield await complete_in_thread(partial(_result, frame, result, True))
                else:
                    yield _result(frame, result, False)


def pixels_of_video(source: str, tell: Tell) -> VideoOpening:
    """How a source is opened by who computes in this process."""
    return VideoOpening(source, VideoForm.PIXELS, tell=tell)


def results_of_local_video(
    serve: Callable[[Iterator[Image]], Iterator[FrameResult]],
    opening: VideoOpening,
    with_pixels: bool,
) -> Iterator[VideoResult]:
    """Open a source and have its frames served here; see `LocalDetector.detect_video`."""
    with closing(opening.open()) as source:
        sent: deque[SourceFrame] = deque()
        numbers = itertools.count()

        def pictures() -> Iterator[Image]:
            for frame in source:
                sent.append(frame)
                if isinstance(frame.content, EncodedImage | RawImage):
                    yield frame.content

        def numbered(frame: SourceFrame, result: FrameResult) -> VideoResult:
            result = replace(result, frame_id=next(numbers))
            return _result(frame, result, with_pixels)

        def failed_first() -> Iterator[VideoResult]:
            while sent and isinstance(sent[0].content, TandemError):
                yield numbered(sent[0], failure(sent.popleft()))

        for result in serve(pictures()):
            yield from failed_first()
            yield numbered(sent.popleft(), result)
        yield from failed_first()


def frames_of(source: Source, is_live: bool) -> Iterator[SourceFrame]:
    """The frames of a source; a file's, if it is to be live, none before its time."""
    if is_live and source.info.kind is SourceKind.VIDEO:
        return played(source)
    return iter(source)


def _rgb(frame: SourceFrame) -> np.ndarray | None:
    try:
        pixels = frame.pixels()
    except TandemError:
        return None
    return None if pixels is None else np.ascontiguousarray(pixels[..., ::-1])


def _result(frame: SourceFrame, result: FrameResult, with_pixels: bool) -> VideoResult:
    """A frame's result; decodes the frame if need be, once and in order."""
    pixels = _rgb(frame) if with_pixels else None
    return VideoResult(**vars(result), name=frame.name, seconds=frame.seconds, pixels=pixels)
