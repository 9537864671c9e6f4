"""Turns a frame's bytes into the backbone's input, without making other clients' frames wait.

Every frame is first checked against the limits, which costs next to nothing. Cheap frames then go
to light decoders, of which each worker has one, and expensive ones to a heavy decoder that runs at
a lower priority. So a cheap frame never waits long for an expensive one. Compressed pictures are
decoded in processes that are killed when they take too long. Raw frames need no such process: they
cannot mislead a library, and their cost is known.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Dict, Tuple, Union

import numpy as np

from common.bundle import Manifest, Normalization
from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage, FrameGeometry, Image, RawImage
from common.domain.placement import Stage
from common.vision.confined_process import CpuTimeError, start_server
from common.vision.decode import check_raw, decode_raw, may_be_halved
from common.vision.decoder_process import DecoderProcess
from common.vision.headers import ImageHeader, read_header
from common.vision.limits import (
    DecodingLimits,
    ImageSize,
    Pace,
    decode_deadline_seconds,
    wall_deadline_seconds,
)
from common.vision.preprocess import input_geometry, normalise, preprocess
from services.pipeline.core import Slow
from services.pipeline.shapes import input_shapes
from services.pipeline.workers import WORKER_THREADS

# A frame is heavy if it is estimated to take longer than this on one core of a PC. One that takes
# far longer than estimated is started again as heavy: a small PNG may inflate for minutes.
_LIGHT_SECONDS = 0.1
# Low enough not to slow down an engine that uses every core, and high enough to make progress.
_HEAVY_NICENESS = 5
_RAW_SECONDS_PER_PIXEL = 5e-9

# A decoder's memory: for an interlaced PNG of 16 bits or a progressive CMYK JPEG, and for resizing.
_MEMORY_BYTES_PER_PIXEL = 24
_MEMORY_BYTES = 512 << 20
# A worker that is later than this is not waiting for a decoder: it hangs.
_STUCK_SECONDS = 10.0
# A PNG of 16 bits with alpha, uncompressed.
_FILE_BYTES_PER_PIXEL = 8


@dataclass(frozen=True)
class Picture:
    """One frame, ready for the engine.

    Attributes:
        tensors: the engine's inputs by name.
        geometry: the frame's sizes before and after resizing.
        decode_seconds: how long decoding took.
        preprocess_seconds: how long resizing and normalising took.
    """

    tensors: Dict[str, np.ndarray]
    geometry: FrameGeometry
    decode_seconds: float
    preprocess_seconds: float


class Decoders:
    """The processes that decode pictures, whatever bundle these are for.

    Attributes:
        max_pixels: the largest width times height of a frame.
        limits: all other limits on frames.
        halve: decode JPEGs to half their size where the input is smaller still.
        pace: how fast this machine decodes.
        heavy: decodes what is expensive.
        light: those that are free for what is cheap.
    """

    def __init__(self, max_pixels: int, limits: DecodingLimits, halve: bool = False) -> None:
        """Start the server of decoders, which has to be done before gRPC is started."""
        self.max_pixels = max_pixels
        self.limits = limits
        self.halve = halve
        self.pace = Pace()
        memory_bytes = _MEMORY_BYTES + _MEMORY_BYTES_PER_PIXEL * max_pixels
        self.heavy = DecoderProcess(memory_bytes, _HEAVY_NICENESS)
        self._all_light = [DecoderProcess(memory_bytes) for _ in range(WORKER_THREADS)]
        self.light: SimpleQueue[DecoderProcess] = SimpleQueue()
        for decoder in self._all_light:
            self.light.put(decoder)
        self._is_started = False
        start_server()

    def start(self) -> None:
        """Start the light decoders, so that the first frame does not wait for them."""
        if self._is_started:
            return
        self._is_started = True
        for decoder in self._all_light:
            decoder.start()

    def close(self) -> None:
        """Kill them at once; frames that wait for one get an UnavailableError."""
        for decoder in (*self._all_light, self.heavy):
            decoder.close()


class Pictures:
    """Makes the inputs of one bundle's backbone; any worker thread may call it."""

    def __init__(self, manifest: Manifest, decoders: Decoders) -> None:
        """Make what the bundle of this manifest takes.

        Args:
            manifest: of the bundle.
            decoders: decode the pictures.
        """
        self._manifest = manifest
        self._decoders = decoders
        self._shapes = input_shapes(manifest, Stage.BACKBONE)["pixels"]

    def start(self) -> None:
        """Start the decoders, if they are not."""
        self._decoders.start()

    def make(self, image: Image) -> Union[Picture, Slow[Picture]]:
        """Check a frame and decode it if that is cheap; otherwise return what decodes it slowly.

        Raises:
            InvalidInputError: the image is malformed, too large or too expensive.
            UnavailableError: this was closed, or the machine is too busy.
        """
        if isinstance(image, RawImage):
            return self._make_raw(image)
        header = read_header(image.data, self._decoders.max_pixels, self._decoders.limits)
        geometry = self.geometry(header.size)

        def make_slowly() -> Picture:
            return self._decode_slowly(image, header, geometry)

        if header.decode_seconds > _LIGHT_SECONDS:
            return Slow(make_slowly)
        cpu_seconds = self._decoders.pace.budget_seconds(header.decode_seconds)
        decoder = self._decoders.light.get()
        try:
            return self._decode(decoder, image, header, geometry, cpu_seconds)
        except CpuTimeError:
            return Slow(make_slowly)
        finally:
            self._decoders.light.put(decoder)

    def stuck_after_seconds(self) -> Tuple[float, float]:
        """The time after which a worker, and the slow worker, must be hanging at a frame."""
        light = self._decoders.pace.largest_budget_seconds(_LIGHT_SECONDS)
        heavy = decode_deadline_seconds(
            self._decoders.max_pixels, _FILE_BYTES_PER_PIXEL * self._decoders.max_pixels
        )
        return (
            wall_deadline_seconds(light) + _STUCK_SECONDS,
            wall_deadline_seconds(heavy) + _STUCK_SECONDS,
        )

    def _make_raw(self, image: RawImage) -> Union[Picture, Slow[Picture]]:
        check_raw(image, self._decoders.max_pixels, self._decoders.limits)
        self.geometry(ImageSize(image.width, image.height))

        def make() -> Picture:
            started = time.perf_counter()
            rgb = decode_raw(image)
            decoded = time.perf_counter()
            pixels, geometry = preprocess(rgb, self._manifest.input, self._manifest.normalization)
            seconds = time.perf_counter() - decoded
            return Picture({"pixels": pixels}, geometry, decoded - started, seconds)

        is_light = image.width * image.height * _RAW_SECONDS_PER_PIXEL <= _LIGHT_SECONDS
        return make() if is_light else Slow(make)

    @property
    def normalization(self) -> Normalization:
        """The bundle's mean and standard deviation."""
        return self._manifest.normalization

    def geometry(self, size: ImageSize) -> FrameGeometry:
        """The sizes that a frame of this size goes through.

        Raises:
            InvalidInputError: its input would be larger than any that the bundle's policy gives.
        """
        geometry = input_geometry(size.height, size.width, self._manifest.input)
        shape = (1, 3, geometry.input_height, geometry.input_width)
        if not self._shapes.contains(shape):
            height, width = self._shapes.max[2:]
            raise InvalidInputError(
                f"the frame of {size.width} x {size.height} pixels makes an input of {shape[3]} x "
                f"{shape[2]}; the limit of the bundle's input policy is {width} x {height}"
            )
        return geometry

    def _decode_slowly(
        self, image: EncodedImage, header: ImageHeader, geometry: FrameGeometry
    ) -> Picture:
        pixels = header.size.width * header.size.height
        cpu_seconds = decode_deadline_seconds(pixels, len(image.data))
        try:
            return self._decode(self._decoders.heavy, image, header, geometry, cpu_seconds)
        except CpuTimeError:
            raise InvalidInputError(
                f"decoding the image takes more than the limit of {cpu_seconds:.1f} s of CPU time "
                f"for {header.size.width} x {header.size.height} pixels in {len(image.data)} bytes"
            ) from None

    def _decode(
        self,
        decoder: DecoderProcess,
        image: EncodedImage,
        header: ImageHeader,
        geometry: FrameGeometry,
        cpu_seconds: float,
    ) -> Picture:
        started = time.perf_counter()
        size = ImageSize(geometry.valid_width, geometry.valid_height)
        wall_seconds = wall_deadline_seconds(cpu_seconds)
        halved = self._decoders.halve and may_be_halved(header, size)
        picture = decoder.decode(image.data, header, size, cpu_seconds, wall_seconds, halved=halved)
        received = time.perf_counter()
        if not halved:  # the estimate is that of the whole picture
            self._decoders.pace.record(header.decode_seconds, picture.decode_cpu_seconds)
        pixels = normalise(picture.rgb, geometry, self._manifest.normalization)
        ended = time.perf_counter()
        # Sending the frame to the decoder and back counts as decoding.
        decode_seconds = received - started - picture.resize_seconds
        preprocess_seconds = ended - received + picture.resize_seconds
        return Picture({"pixels": pixels}, geometry, decode_seconds, preprocess_seconds)
