"""Encodes and decodes all the tensors that cross the cut of one bundle."""

from __future__ import annotations

from typing import Dict, Mapping, Sequence, Tuple

import numpy as np

from common.bundle import Manifest
from common.codec.base import MAX_VALUES, checked_count
from common.codec.feature_codec import FeatureCodec
from common.domain.codec import Codec, EncodedTensor
from common.domain.errors import InvalidInputError


class CutCodec:
    """The feature codecs of a bundle, tensor by tensor; any number of threads may use it."""

    def __init__(self, manifest: Manifest) -> None:
        """Prepare every codec that can be served.

        Args:
            manifest: of the bundle.
        """
        self._names = tuple(tensor.name for tensor in manifest.cut)
        calibration = manifest.codec.calibration
        if calibration is None:
            self._codecs = tuple(FeatureCodec() for _ in self._names)
        else:
            channels = [tensor.channels for tensor in manifest.cut]
            self._codecs = tuple(FeatureCodec(one) for one in calibration.of_tensors(channels))

    def require(self, codec: Codec) -> None:
        """Check that a codec of features can be served; `LatentCoders` has those of latents.

        Raises:
            PreconditionError: it needs a calibration, which the bundle lacks.
        """
        self._codecs[0].require(codec)

    def encode(self, tensors: Mapping[str, np.ndarray], codec: Codec) -> Tuple[EncodedTensor, ...]:
        """Encode the tensors of the cut, float32 [frames,channels,rows,columns] by name.

        Raises:
            PreconditionError: see `require`.
            InvalidInputError: the codec is calibrated for another number of channels.
        """
        return tuple(
            one.encode(tensors[name], codec) for name, one in zip(self._names, self._codecs)
        )

    def decode(self, encoded: Sequence[EncodedTensor]) -> Dict[str, np.ndarray]:
        """Decode to float32 by name, C-contiguous, possibly read-only.

        Raises:
            PreconditionError: see `require`.
            InvalidInputError: there is another number of tensors than cross the cut, they have too
                many values in all, or a payload does not hold a tensor of the shape it names.
        """
        if len(encoded) != len(self._names):
            raise InvalidInputError(
                f"the number of a frame's feature tensors is {len(encoded)}, and it has to be "
                f"{len(self._names)}, as cross the bundle's cut"
            )
        count = sum(checked_count(tensor.shape) for tensor in encoded)
        if count > MAX_VALUES:
            raise InvalidInputError(
                f"a frame's features have {count} values; at most {MAX_VALUES} are decoded"
            )
        return {
            name: one.decode(tensor)
            for name, one, tensor in zip(self._names, self._codecs, encoded)
        }
