"""Pictures that are encoded anew before they cross the link to a backbone.

An encoder belongs to one stream along a route, as the decoder at its other end does. Both begin
with a key frame and end with the stream, so that nothing has to be kept for another route: a
picture that is sent again is encoded again, by the encoder of whichever stream it takes.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, cast

from common.domain.errors import CallerError
from common.domain.frames import Image
from common.domain.video import FrameCodec, VideoFormat
from common.wire.errors import error_from_wire, error_to_wire
from common.wire.frames import content_from_wire
from common.wire.stage_client import StageStream
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.session.turns import Turns

if TYPE_CHECKING:
    from common.vision.video.encoder_process import PictureEncoder


class FrameEncoding(NamedTuple):
    """How pictures are encoded before they cross a link.

    Attributes:
        codec: what they become.
        quality: of JPEG, 1 to 100, the higher the better; the CRF of video, the lower the better.
        on_encoded: called with the seconds that encoding a picture took.
    """

    codec: FrameCodec
    quality: int
    on_encoded: Callable[[float], None]

    @property
    def video(self) -> Optional[VideoFormat]:
        """What the frames of a stream become video of; None: they stay pictures."""
        codec = self.codec.video
        return None if codec is None else VideoFormat(codec)


class FrameEncoder:
    """Encodes the pictures of one stream along a route, in the order in which they are sent."""

    def __init__(self, encoding: FrameEncoding, opening: asyncio.Task[StageStream]) -> None:
        """Encode until the stream that `opening` gives has ended."""
        self._encoding = encoding
        self._opening = opening
        self._encoder: Optional[PictureEncoder] = None
        # Its thread waits for the process that does the work.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._begins = True
        self.ended = asyncio.ensure_future(self._end_with_stream())

    async def ask(
        self, turns: Turns, frame: detector_pb2.Frame, on_sent: Callable[[], None]
    ) -> stage_pb2.FrameResult:
        """Encode a picture in its turn, send it, and wait for its result.

        One that is refused may have needed another one that was not decoded. So it is sent once
        more, as a key frame, before that counts.

        Args:
            turns: in which the frames of the stream are sent.
            frame: the picture.
            on_sent: called when the stream is open and the frame about to be sent.

        Returns:
            Its result, which is an error if the picture cannot be encoded.

        Raises:
            TandemError: the stream is lost, or the machine has no time or memory to encode.
        """
        result, was_key = await self._ask(turns, frame, on_sent, begins=False)
        if was_key or not _is_refusal(result):
            return result
        # It has been told already that the frame is sent.
        result, _ = await self._ask(turns, frame, lambda: None, begins=True)
        return result

    async def _ask(
        self,
        turns: Turns,
        frame: detector_pb2.Frame,
        on_sent: Callable[[], None],
        *,
        begins: bool,
    ) -> _Answer:
        # No wait before this: turns are in the order asked.
        async with turns.take():
            # Shielded: that one frame is given up must not end the opening for the others.
            stream = await asyncio.shield(self._opening)
            if stream.lost:
                # Whoever encodes for it has ended with it.
                raise await stream.wait_lost()
            try:
                encoded = await self._encode(frame, begins=begins)
            except CallerError as error:
                refusal = error_to_wire(error)
                return _Answer(
                    stage_pb2.FrameResult(frame_id=frame.frame_id, error=refusal), was_key=True
                )
        on_sent()
        try:
            request = stage_pb2.BackboneRequest(frame=encoded)
            was_key = encoded.WhichOneof("image") == "encoded" or encoded.encoded_video.key_frame
            result = await stream.ask(request, frame.frame_id)
        except BaseException:
            # It may not have been sent, and the next one must not refer to it then.
            self._begins = True
            raise
        if result.WhichOneof("result") == "error":
            self._begins = True
        return _Answer(result, was_key)

    async def _encode(self, frame: detector_pb2.Frame, *, begins: bool) -> detector_pb2.Frame:
        image = cast(Image, content_from_wire(frame, None))
        begins, self._begins = begins or self._begins, False
        started = time.perf_counter()
        try:
            encode = self._loaded().encode
            data, key_frame = await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: encode(image, begins=begins)
            )
        except BaseException:
            self._begins = True
            raise
        self._encoding.on_encoded(time.perf_counter() - started)
        sent = detector_pb2.Frame(frame_id=frame.frame_id, traceparent=frame.traceparent)
        if frame.HasField("captured_at"):
            sent.captured_at.CopyFrom(frame.captured_at)
        if self._encoding.video is None:
            sent.encoded = data
        else:
            sent.encoded_video.data, sent.encoded_video.key_frame = data, key_frame
        return sent

    def _loaded(self) -> PictureEncoder:
        if self._encoder is None:
            # An orchestrator that encodes nothing loads no libraries for that.
            from common.vision.video.encoder_process import PictureEncoder

            self._encoder = PictureEncoder(self._encoding.codec, self._encoding.quality)
        return self._encoder

    async def _end_with_stream(self) -> None:
        await asyncio.wait([self._opening])
        if not self._opening.cancelled() and self._opening.exception() is None:
            await self._opening.result().wait_lost()
        if self._encoder is not None:
            # It waits for a moment until its process is gone.
            await asyncio.get_running_loop().run_in_executor(None, self._encoder.close)
        self._thread.shutdown(wait=False)


class _Answer(NamedTuple):
    """A result, and whether it is that of a picture which referred to no other."""

    result: stage_pb2.FrameResult
    was_key: bool


def _is_refusal(result: stage_pb2.FrameResult) -> bool:
    if result.WhichOneof("result") != "error":
        return False
    return isinstance(error_from_wire(result.error), CallerError)
