"""The backbone stage: an image becomes features. No transport and no threads here."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Dict, Mapping, Optional, Tuple, Union

import numpy as np

from common.bundle import Manifest
from common.codec import FeatureCodec, codec_named
from common.codec.base import are_features
from common.domain.codec import Codec, EncodedTensor
from common.domain.detections import StageTiming
from common.domain.errors import EngineError
from common.domain.frames import FrameGeometry, Image
from services.backbone.pictures import Picture, Pictures
from services.pipeline.core import Slow, StageCore
from services.pipeline.shapes import typical_size


@dataclass(frozen=True)
class FrameFeatures:
    """One frame's features, ready to be sent; `timing` lacks what only the transport knows."""

    geometry: FrameGeometry
    tensor: EncodedTensor
    timing: StageTiming


class BackboneStage(StageCore[Image, Picture, Codec, FrameFeatures]):
    """Decodes and preprocesses a frame before the engine, encodes its features after it."""

    def __init__(self, manifest: Manifest, pictures: Pictures) -> None:
        """Serve this bundle's backbone; `pictures` decodes, and is closed with this."""
        self._manifest = manifest
        self._pictures = pictures
        self._codec = FeatureCodec(manifest.codec.calibration)

    def usable_codec(self, asked: Optional[Codec]) -> Codec:
        """The codec asked for, or the bundle's default.

        Raises:
            PreconditionError: the bundle cannot serve it.
        """
        codec = asked or codec_named(self._manifest.codec.default)
        self._codec.require(codec)
        return codec

    def prepare(self, frame: Image) -> Union[Picture, Slow[Picture]]:
        """Decode, resize and normalise a frame; see `StageCore.prepare`.

        Raises:
            InvalidInputError: the image is malformed, too large or too expensive to decode.
            UnavailableError: the machine is too busy to decode it, or this was closed.
        """
        return self._pictures.make(frame)

    def finish(
        self,
        inputs: Picture,
        outputs: Mapping[str, np.ndarray],
        options: Codec,
        timing: StageTiming,
    ) -> FrameFeatures:
        """Encode the features by the codec in `options`; see `StageCore.finish`.

        Raises:
            EngineError: the features are no numbers.
        """
        started = time.perf_counter()
        features = outputs["features"]
        # A codec would turn them into numbers like any other.
        if not are_features(features):
            raise EngineError("the backbone's features are not finite, or far too large")
        tensor = self._codec.encode(features, options)
        timing = replace(timing, encode_seconds=time.perf_counter() - started)
        return FrameFeatures(inputs.geometry, tensor, timing)

    def typical_tensors(self) -> Dict[str, np.ndarray]:
        """A black frame of the usual size."""
        height, width = typical_size(self._manifest.input)
        return {"pixels": np.zeros((1, 3, height, width), np.float32)}

    def stuck_after_seconds(self) -> Tuple[float, float]:
        """See `StageCore.stuck_after_seconds`; it depends on how fast this machine decodes."""
        return self._pictures.stuck_after_seconds()

    def start(self) -> None:
        """Start the decoders."""
        self._pictures.start()

    def close(self) -> None:
        """Kill the decoders."""
        self._pictures.close()
