"""Latents of one stream, coded over time: what each end of it holds from frame to frame.

A frame is coded given the one that was coded just before it, which it names. Both ends handle a
stream's frames one at a time, in the order in which they were coded and sent. A receiver that does
not hold what a frame names says so, and the sender codes the same frame again, alone. So whatever
is lost, refused or cancelled on the way, no frame is ever decoded given another than its reference.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from enum import Enum
from typing import Callable, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from common.bundle import Bundle, DetrManifest
from common.bundle.folder import LATENT_TABLES_NAME
from common.codec.latent import LatentCoder
from common.codec.latent_levels import CodedLevels
from common.codec.latent_tables import read_latent_tables
from common.domain.codec import LATENT_CODECS, Codec, EncodedFeatures, EncodedTensor
from common.domain.errors import InvalidInputError, PreconditionError, ReferenceMissingError
from common.domain.frames import FrameGeometry

FRAMES_HELD = 4
"""How many frames a receiver holds as references; a sender of Tandem's names the last one only."""
HELD_BYTES_OF_A_LATENT = 6
"""What a frame that is held takes for each of its latents: its level, and whether it changed."""

_NO_BOTTLENECK = (
    "with a bottleneck, and this one has none: train one with `tandem bottleneck`, and give every "
    "node the result"
)
_NO_BOTTLENECK_YET = (
    "with a bottleneck, which only a plain DETR can have so far, and this one is of the family "
    "{family}: take a codec of features, such as int8 or q4"
)
_NO_TABLES = (
    "that is calibrated for its bottleneck, and this one is not: run `tandem model calibrate` on "
    "it, and give every node the result"
)

# For frames that are sent again, and for those whose own ids do not increase. No client counts so
# far.
_SPARE_IDS_FROM = 1 << 62


class LatentCoders:
    """The coders of a bundle's rates; any number of threads may use them."""

    def __init__(self, coders: Mapping[Codec, LatentCoder], lack: str = "") -> None:
        """Take the coder of each rate, or none of them for what the bundle lacks, in words."""
        self._coders = dict(coders)
        self._lack = lack

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> LatentCoders:
        """Read a bundle's tables.

        Raises:
            ConfigurationError: its tables are damaged.
        """
        bottleneck = bundle.manifest.bottleneck
        if bottleneck is None and not isinstance(bundle.manifest, DetrManifest):
            return cls({}, _NO_BOTTLENECK_YET.format(family=bundle.manifest.family))
        if bottleneck is None:
            return cls({}, _NO_BOTTLENECK)
        if LATENT_TABLES_NAME not in bundle.manifest.files:
            return cls({}, _NO_TABLES)
        tables = read_latent_tables(bundle.latent_tables(), bundle.manifest)
        return cls(
            {
                codec: LatentCoder(bottleneck.rates[codec.value], tables.of(codec))
                for codec in LATENT_CODECS
            }
        )

    def of(self, codec: Codec) -> LatentCoder:
        """The coder of one rate.

        Raises:
            PreconditionError: the bundle has no bottleneck, or is not calibrated for it.
        """
        if codec not in self._coders:
            raise PreconditionError(f"codec {codec.value} needs a bundle {self._lack}")
        return self._coders[codec]


class KeyReason(Enum):
    """Why a frame was coded alone, which takes several times the bytes."""

    FIRST = "first"
    """It is its stream's first."""
    SIZE = "size"
    """It has other sizes than the frame before."""
    MISSING = "missing"
    """It was sent before, and the receiver did not hold its reference."""


class _Reference(NamedTuple):
    """A frame that others may be coded given."""

    frame_id: int
    codec: Codec
    geometry: FrameGeometry
    coded: CodedLevels


class LatentEncoder:
    """Codes the frames of one stream, one at a time; the caller sends them in the same order.

    It holds the levels of the frame that it coded last. Every coding has a name of its own in the
    stream, so that no name can mean two pictures.
    """

    def __init__(
        self,
        codec: Codec,
        coder: LatentCoder,
        on_key_frame: Callable[[KeyReason], None] = lambda reason: None,
    ) -> None:
        """Begin a stream.

        Args:
            codec: the rate.
            coder: of that rate.
            on_key_frame: is told of each frame that is coded alone.
        """
        self._codec = codec
        self._coder = coder
        self._on_key_frame = on_key_frame
        self._latest: Optional[_Reference] = None
        self._largest_id = -1
        self._spare_ids = itertools.count(_SPARE_IDS_FROM)

    def encode(
        self, frame_id: int, latents: np.ndarray, geometry: FrameGeometry
    ) -> EncodedFeatures:
        """Code a frame given the one before, if there is one of the same sizes.

        Args:
            frame_id: the frame's name on the wire, unless the stream has had one like it or larger.
            latents: [1,channels,rows,columns] with integer values.
            geometry: the frame's sizes.

        Raises:
            InvalidInputError: a latent is no number, or too large.
        """
        name = self._name(frame_id)
        latest = self._latest
        if latest is None:
            return self._encode_alone(name, latents, geometry, KeyReason.FIRST)
        if geometry != latest.geometry or latents.shape[1:] != latest.coded.levels.shape:
            return self._encode_alone(name, latents, geometry, KeyReason.SIZE)
        coded = self._coder.levels(latents, latest.coded)
        data = self._coder.encode(coded, latest.coded)
        self._latest = _Reference(name, self._codec, geometry, coded)
        # Shape and geometry are the reference's.
        tensor = EncodedTensor((), self._codec, data)
        return EncodedFeatures(name, (tensor,), None, latest.frame_id)

    def encode_again(self, latents: np.ndarray, geometry: FrameGeometry) -> EncodedFeatures:
        """Code a frame alone, since the receiver could not decode it given its reference.

        Frames that are coded from now on refer to this coding. Those that were coded in between
        refer to what the receiver lacks, and are answered in the same way.
        """
        return self._encode_alone(next(self._spare_ids), latents, geometry, KeyReason.MISSING)

    def _encode_alone(
        self, name: int, latents: np.ndarray, geometry: FrameGeometry, reason: KeyReason
    ) -> EncodedFeatures:
        coded = self._coder.levels(latents)
        data = self._coder.encode(coded)
        self._latest = _Reference(name, self._codec, geometry, coded)
        self._on_key_frame(reason)
        tensor = EncodedTensor((1, *coded.levels.shape), self._codec, data)
        return EncodedFeatures(name, (tensor,), geometry)

    def _name(self, frame_id: int) -> int:
        if not self._largest_id < frame_id < _SPARE_IDS_FROM:
            return next(self._spare_ids)
        self._largest_id = frame_id
        return frame_id


class LatentDecoder:
    """Decodes the frames of one stream, one at a time, in the order in which they arrive."""

    def __init__(
        self,
        coders: LatentCoders,
        check_shape: Callable[[Tuple[int, ...], FrameGeometry], None],
    ) -> None:
        """Begin a stream.

        Args:
            coders: of the bundle's rates.
            check_shape: raises an InvalidInputError if latents of this shape are not those of a
                frame of these sizes, or larger than the bundle allows.
        """
        self._coders = coders
        self._check_shape = check_shape
        self._held: OrderedDict[int, _Reference] = OrderedDict()

    def decode(self, features: EncodedFeatures) -> Tuple[np.ndarray, FrameGeometry]:
        """Decode a frame, and hold it as a reference for those that follow.

        A frame that is refused is not held, and leaves the others that are.

        Returns:
            The latents, float32 [1,channels,rows,columns], and the frame's sizes.

        Raises:
            ReferenceMissingError: the frame's reference is not held.
            InvalidInputError: the payload does not hold latents of this shape, the shape is not
                that of its reference, or there are several tensors.
            PreconditionError: the bundle has no bottleneck.
        """
        codec = features.codec
        if len(features.tensors) > 1:
            raise InvalidInputError(
                f"latents are one tensor, and this frame has {len(features.tensors)}"
            )
        coder = self._coders.of(codec)
        reference = self._reference_of(features)
        shape, geometry = _sizes(features, reference)
        self._check_shape(shape, geometry)
        given = None if reference is None else reference.coded
        _, channels, rows, columns = shape
        coded = coder.decode(features.tensors[0].data, (channels, rows, columns), given)
        self._held[features.frame_id] = _Reference(features.frame_id, codec, geometry, coded)
        if len(self._held) > FRAMES_HELD:
            self._held.popitem(last=False)
        return coder.latents(coded), geometry

    def _reference_of(self, features: EncodedFeatures) -> Optional[_Reference]:
        # What had this frame's name is no reference any more, whatever becomes of the frame.
        self._held.pop(features.frame_id, None)
        name = features.reference_id
        if name is None:
            return None
        reference = self._held.get(name)
        if reference is None:
            raise ReferenceMissingError(
                f"frame {features.frame_id} is coded given frame {name}, which is not held here"
            )
        if reference.codec is not features.codec:
            raise InvalidInputError(
                f"a frame of codec {features.codec.value} cannot refer to one of codec "
                f"{reference.codec.value}"
            )
        return reference


def _sizes(
    features: EncodedFeatures, reference: Optional[_Reference]
) -> Tuple[Tuple[int, ...], FrameGeometry]:
    """A frame's own shape and geometry, or its reference's where it has none.

    Raises:
        InvalidInputError: it has neither.
    """
    shape, geometry = features.tensors[0].shape, features.geometry
    if reference is not None:
        shape = shape or (1, *reference.coded.levels.shape)
        geometry = geometry or reference.geometry
    if geometry is None:
        raise InvalidInputError("a frame that is coded alone has to tell its sizes")
    return shape, geometry
