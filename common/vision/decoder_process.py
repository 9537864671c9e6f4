"""A process that decodes pictures, and can be killed when one takes too long."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.domain.errors import InvalidInputError
from common.vision import decoder_child
from common.vision.confined_process import ConfinedProcess
from common.vision.confinement import DECODE_REPLY, DecodeReply, picture_in, picture_offset
from common.vision.decode import copy_needed
from common.vision.decoder_child import REQUEST, Request
from common.vision.headers import ImageHeader
from common.vision.limits import ImageSize


@dataclass(frozen=True)
class Decoded:
    """A picture at the size asked for.

    Attributes:
        rgb: uint8 [height,width,3] in the shared buffer, which the next picture overwrites.
        resize_seconds: the time that resizing took.
        decode_cpu_seconds: the CPU time that decoding took; 0 of video, which is not told.
    """

    rgb: np.ndarray
    resize_seconds: float
    decode_cpu_seconds: float = 0.0


class DecoderProcess(ConfinedProcess):
    """One process that decodes pictures."""

    def __init__(self, memory_bytes: int, niceness: int = 0) -> None:
        """Prepare to decode; the process starts with `start`, or with the first picture.

        Args:
            memory_bytes: the memory that decoding may take.
            niceness: the niceness that the process runs at.
        """
        super().__init__(decoder_child.serve, "image", memory_bytes, niceness)

    def decode(
        self,
        data: bytes,
        header: ImageHeader,
        size: ImageSize,
        cpu_seconds: float,
        wall_seconds: float,
        *,
        halved: bool = False,
    ) -> Decoded:
        """Decode a file and resize the picture.

        Args:
            data: the content of the file.
            header: what was read of it.
            size: the size that the picture is resized to.
            cpu_seconds: the CPU time that it may take.
            wall_seconds: how long to wait for that on a busy machine.
            halved: decode to half the size first, which `may_be_halved` has to allow.

        Raises:
            InvalidInputError: the file cannot be decoded, or crashes the decoder.
            CpuTimeError: decoding took more than `cpu_seconds`.
            UnavailableError: this was closed, or the machine gives the process no time or memory.
        """
        file_bytes = header.needed_bytes
        answer = self.ask(
            REQUEST.pack(*Request(file_bytes, *header.size, *size, halved)),
            DECODE_REPLY.size,
            lambda buffer: copy_needed(data, header, buffer[:file_bytes]),
            buffer_bytes=picture_offset(file_bytes) + size.height * size.width * 3,
            cpu_seconds=cpu_seconds,
            wall_seconds=wall_seconds,
        )
        reply = DecodeReply(*DECODE_REPLY.unpack(answer))
        if reply.status == decoder_child.UNDECODABLE:
            raise InvalidInputError("the image cannot be decoded")
        if reply.status == decoder_child.OUT_OF_MEMORY:
            raise InvalidInputError(
                "decoding the image takes more memory than the limit of "
                f"{self.memory_bytes >> 20} MiB"
            )
        rgb = picture_in(self.buffer, file_bytes, size)
        return Decoded(rgb, reply.resize_seconds, reply.decode_cpu_seconds)
