"""The backbone stage: an image becomes features. No transport and no threads here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from common.bundle import Bundle
from common.codec import CutCodec, KeyReason, LatentCoders, LatentEncoder, codec_named
from common.codec.base import are_features
from common.codec.latent_levels import MAX_LATENT
from common.codec.latent_streams import HELD_BYTES_OF_A_LATENT
from common.domain.codec import LATENT_CODECS, Codec, EncodedFeatures
from common.domain.detections import StageTiming
from common.domain.errors import EngineError
from common.domain.frames import FrameGeometry, Image
from common.engines.bottleneck import PIXELS_TO_LATENTS
from services.backbone.pictures import Decoders, Picture, Pictures
from services.backbone.video import VideoFrame
from services.pipeline.core import Slow, StageCore
from services.pipeline.shapes import largest_feature_count, largest_latent_count, typical_size

Content = Union[Image, VideoFrame]

_BYTES_OF_A_FEATURE = {Codec.FP32: 4, Codec.FP16: 2}
# The scales of each channel, the frame's geometry, and what gRPC's messages add.
_SENT_BESIDE_BYTES = 16 << 10


@dataclass(frozen=True)
class Encoding:
    """How a frame's features are encoded.

    Attributes:
        frame_id: of the frame.
        codec: of its stream.
        latents: what codes the stream's latents; None where the codec is one of features.
    """

    frame_id: int
    codec: Codec
    latents: Optional[LatentEncoder] = None


@dataclass(frozen=True)
class KeptLatents:
    """What a frame can be coded again from, until it is answered.

    Attributes:
        latents: int16 [1,channels,rows,columns].
        geometry: the frame's sizes.
    """

    latents: np.ndarray
    geometry: FrameGeometry


@dataclass(frozen=True)
class FrameFeatures:
    """One frame's features, ready to be sent; `timing` lacks what only the transport knows."""

    encoded: EncodedFeatures
    timing: StageTiming
    kept: Optional[KeptLatents] = None


class BackboneStage(StageCore[Content, Picture, Encoding, FrameFeatures]):
    """Decodes and preprocesses a frame before the engine, encodes its features after it.

    Attributes:
        pictures: makes the engine's inputs.
    """

    def __init__(self, bundle: Bundle, decoders: Decoders) -> None:
        """Serve this bundle's backbone.

        Args:
            bundle: whose backbone it is.
            decoders: decode pictures.

        Raises:
            ConfigurationError: the tables of the bundle's bottleneck are damaged.
        """
        self._manifest = bundle.manifest
        self.pictures = Pictures(bundle.manifest, decoders)
        self._codec = CutCodec(bundle.manifest)
        self._coders = LatentCoders.of_bundle(bundle)

    def usable_codec(self, asked: Optional[Codec]) -> Codec:
        """The codec asked for, or the bundle's default.

        Raises:
            PreconditionError: the bundle cannot serve it.
        """
        codec = asked or codec_named(self._manifest.codec.default)
        if codec in LATENT_CODECS:
            self._coders.of(codec)
        else:
            self._codec.require(codec)
        return codec

    def latent_encoder(
        self, codec: Codec, on_key_frame: Callable[[KeyReason], None]
    ) -> Optional[LatentEncoder]:
        """What codes the latents of a new stream of this codec; None if it is one of features.

        Args:
            codec: one that `usable_codec` gave.
            on_key_frame: is told of each frame that is coded alone.
        """
        if codec not in LATENT_CODECS:
            return None
        return LatentEncoder(codec, self._coders.of(codec), on_key_frame)

    def kept_bytes(self, codec: Codec) -> int:
        """The most memory that a stream of this codec takes beside its frames."""
        if codec not in LATENT_CODECS:
            return 0
        return HELD_BYTES_OF_A_LATENT * largest_latent_count(self._manifest)

    def sent_bytes(self, codec: Codec) -> int:
        """About the most that a frame's features take by this codec, with what is sent beside."""
        if codec in LATENT_CODECS:
            return _SENT_BESIDE_BYTES + largest_latent_count(self._manifest)
        width = _BYTES_OF_A_FEATURE.get(codec, 1)
        return _SENT_BESIDE_BYTES + width * largest_feature_count(self._manifest)

    def prepare(self, frame: Content) -> Union[Picture, Slow[Picture]]:
        """Decode, resize and normalise a frame; see `StageCore.prepare`.

        Raises:
            InvalidInputError: the image is malformed, too large or too expensive to decode, or the
                video cannot be decoded; see `VideoStream.make`.
            UnavailableError: the machine is too busy to decode it, or this was closed.
        """
        if isinstance(frame, VideoFrame):
            return frame.stream.make(frame.unit)
        return self.pictures.make(frame)

    def engine_inputs(self, inputs: Picture, options: Encoding) -> Dict[str, np.ndarray]:
        """The pixels, under the name that says whether latents are wanted."""
        return _to_latents(inputs.tensors) if options.latents is not None else inputs.tensors

    def finish(
        self,
        inputs: Picture,
        outputs: Mapping[str, np.ndarray],
        options: Encoding,
        timing: StageTiming,
    ) -> FrameFeatures:
        """Encode the features, or the latents, as `options` say; see `StageCore.finish`.

        Raises:
            EngineError: the features are no numbers.
        """
        started = time.perf_counter()
        kept = None
        if options.latents is not None:
            kept = KeptLatents(_whole(outputs["latents"]), inputs.geometry)
            encoded = options.latents.encode(options.frame_id, kept.latents, inputs.geometry)
        else:
            encoded = self._encoded(outputs, inputs.geometry, options)
        timing.encode_seconds = time.perf_counter() - started
        return FrameFeatures(encoded, timing, kept)

    def _encoded(
        self, outputs: Mapping[str, np.ndarray], geometry: FrameGeometry, options: Encoding
    ) -> EncodedFeatures:
        # A codec would turn them into numbers like any other.
        if not all(are_features(outputs[tensor.name]) for tensor in self._manifest.cut):
            raise EngineError("the backbone's features are not finite, or far too large")
        tensors = self._codec.encode(outputs, options.codec)
        return EncodedFeatures(options.frame_id, tensors, geometry)

    def typical_tensors(self) -> List[Dict[str, np.ndarray]]:
        """A black frame of the usual size, whose features and, if it can be, latents are wanted."""
        height, width = typical_size(self._manifest.input)
        tensors = {"pixels": np.zeros((1, 3, height, width), np.float32)}
        if self._manifest.bottleneck is None:
            return [tensors]
        return [tensors, _to_latents(tensors)]

    def stuck_after_seconds(self) -> Tuple[float, float]:
        """See `StageCore.stuck_after_seconds`; it depends on how fast this machine decodes."""
        return self.pictures.stuck_after_seconds()

    def start(self) -> None:
        """Start the decoders."""
        self.pictures.start()


def _to_latents(tensors: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    return {PIXELS_TO_LATENTS: tensors["pixels"]}


def _whole(latents: np.ndarray) -> np.ndarray:
    """The latents as int16, whatever an engine's arithmetic has left behind their point.

    Raises:
        EngineError: they are no numbers, or too large.
    """
    # If there is a NaN, it is the result of min and max, and comparing with it gives False.
    if not (latents.min() >= -MAX_LATENT and latents.max() <= MAX_LATENT):
        raise EngineError("the bottleneck's latents are not finite, or far too large")
    whole: np.ndarray = np.rint(latents).astype(np.int16)
    return whole
