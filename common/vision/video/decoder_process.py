"""The process that decodes one stream of video, and what its end means for the stream."""

from __future__ import annotations

from typing import Optional

from common.domain.errors import InvalidInputError, TandemError, UnavailableError
from common.domain.video import AccessUnit, VideoCodec, VideoFormat
from common.vision.confined_process import ConfinedProcess, CpuTimeError
from common.vision.confinement import DECODE_REPLY, DecodeReply, picture_in, picture_offset
from common.vision.decoder_process import Decoded
from common.vision.limits import ImageSize, decode_deadline_seconds, wall_deadline_seconds
from common.vision.video import messages
from common.vision.video.limits import VideoLimits
from common.vision.video.messages import REQUEST, Request
from common.vision.video.reader import AccessUnitReader, CheckedUnit

# Beside the pictures that are kept: one as RGB, and what resizing takes.
_MEMORY_BYTES = 256 << 20
_MEMORY_BYTES_PER_PIXEL = 24
# Address space that the libraries of hardware reserve; little of it is used.
_HARDWARE_BYTES = 64 << 30

_REFUSALS = {
    messages.DAMAGED: "the access unit is damaged",
    messages.NO_PICTURE: "the access unit gives no picture of its own",
}


class VideoDecoder:
    """Decodes one stream of video. One thread at a time may use it, and any may close it."""

    def __init__(self, video: VideoFormat, limits: VideoLimits) -> None:
        """Decode what `video` describes; a process starts with the first access unit."""
        self._codec = tuple(VideoCodec).index(video.codec)
        self._reader = AccessUnitReader(video, limits)
        memory_bytes = _MEMORY_BYTES + limits.decoder_bytes
        memory_bytes += _MEMORY_BYTES_PER_PIXEL * limits.pixels
        self._by_hardware = limits.by_hardware
        if limits.by_hardware:
            memory_bytes += _HARDWARE_BYTES
        self._process = ConfinedProcess(messages.serve, "access unit", memory_bytes)

    def read(self, unit: AccessUnit) -> CheckedUnit:
        """Check the next access unit; see `AccessUnitReader.read`.

        Raises:
            TandemError: it is refused, and so are those that refer to it.
        """
        return self._reader.read(unit)

    def decode(self, unit: CheckedUnit, size: ImageSize) -> Decoded:
        """Decode the access unit that was read last, and resize its picture to `size`.

        Raises:
            InvalidInputError: it cannot be decoded as a whole, takes too much time or memory, or
                crashes the decoder.
            UnavailableError: this was closed, or the machine gives the process no time or memory.
        """
        reply = self._checked_reply(unit, size)
        rgb = picture_in(self._process.buffer, unit.needed_bytes, size)
        return Decoded(rgb, reply.resize_seconds)

    def follow(self, unit: CheckedUnit) -> None:
        """Decode the access unit that was read last, only because later ones need its picture.

        Raises:
            TandemError: as `decode` does.
        """
        self._checked_reply(unit, None)

    def close(self) -> None:
        """Kill the process at once, whatever it is doing; any thread may call this."""
        self._process.close()

    def _checked_reply(self, unit: CheckedUnit, size: Optional[ImageSize]) -> DecodeReply:
        try:
            reply = self._ask(unit, size)
        except CpuTimeError:
            error = InvalidInputError(
                f"decoding the access unit takes more CPU time than the limit for "
                f"{unit.size.width} x {unit.size.height} pixels in {unit.needed_bytes} bytes"
            )
            self._reader.lost(error)
            raise error from None
        except TandemError as error:
            self._reader.lost(error)
            raise
        except Exception:
            self._reader.lost(UnavailableError("the decoder of the stream failed"))
            raise
        if reply.status == messages.NO_DECODER:
            failure = UnavailableError("the hardware decoder of this machine does not work")
            self._reader.lost(failure)
            raise failure
        if reply.status != messages.DECODED:
            refusal = InvalidInputError(self._refusal(reply.status))
            # Hardware may still deliver this picture, in the place of the next one.
            if unit.is_needed or self._by_hardware or reply.status == messages.OUT_OF_MEMORY:
                self._reader.lost(refusal)
            raise refusal
        return reply

    def _ask(self, unit: CheckedUnit, size: Optional[ImageSize]) -> DecodeReply:
        unit_bytes, target = unit.needed_bytes, size or ImageSize(0, 0)
        is_wanted = size is not None
        by_hardware = self._by_hardware and unit.is_common
        request = Request(
            *(self._codec, by_hardware, unit.begins, is_wanted, unit_bytes), *unit.size, *target
        )
        pixels = unit.size.width * unit.size.height
        cpu_seconds = decode_deadline_seconds(pixels, unit_bytes)
        answer = self._process.ask(
            REQUEST.pack(*request),
            DECODE_REPLY.size,
            lambda buffer: unit.copy_needed(buffer[:unit_bytes]),
            buffer_bytes=picture_offset(unit_bytes) + target.height * target.width * 3,
            cpu_seconds=cpu_seconds,
            wall_seconds=wall_deadline_seconds(cpu_seconds),
        )
        return DecodeReply(*DECODE_REPLY.unpack(answer))

    def _refusal(self, status: int) -> str:
        if status == messages.OUT_OF_MEMORY:
            limit = self._process.memory_bytes >> 20
            return f"decoding the access unit takes more memory than the limit of {limit} MiB"
        return _REFUSALS[status]
