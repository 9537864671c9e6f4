"""Frames, their sizes and their features on the wire."""

from __future__ import annotations

from typing import Dict, Iterable, Optional, Tuple, Union

from common.bundle import MAX_CUT_TENSORS
from common.domain.codec import (
    LATENT_CODECS,
    Codec,
    EncodedFeatures,
    EncodedTensor,
    RateFigures,
)
from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage, FrameGeometry, Image, PixelFormat, RawImage
from common.domain.video import AccessUnit, VideoFormat
from common.wire.parsing import MAX_RANK
from protos.tandem.v1 import detector_pb2, stage_pb2, tensor_pb2

# Beyond any features; what is told of a peer's rates is held against it.
_MOST_BYTES = float(1 << 40)

_FORMAT_TO_WIRE = {
    PixelFormat.RGB8: detector_pb2.PIXEL_FORMAT_RGB8,
    PixelFormat.BGR8: detector_pb2.PIXEL_FORMAT_BGR8,
    PixelFormat.GRAY8: detector_pb2.PIXEL_FORMAT_GRAY8,
}
_FORMAT_FROM_WIRE = {value: pixel_format for pixel_format, value in _FORMAT_TO_WIRE.items()}


def content_from_wire(
    frame: detector_pb2.Frame, video: Optional[VideoFormat]
) -> Union[Image, AccessUnit]:
    """What a frame holds: its image, or its access unit if its stream is video.

    The content itself is checked where it is decoded.

    Args:
        frame: as it was received.
        video: of the stream's options.

    Raises:
        InvalidInputError: it holds nothing, a picture although the stream is video, video although
            the stream is not, or an unknown pixel format.
    """
    kind = frame.WhichOneof("image")
    if kind is None:
        raise InvalidInputError("the frame holds no image")
    if kind == "encoded_video":
        if video is None:
            raise InvalidInputError(
                "the frame is an access unit, but the stream's options have no `video` that says "
                "of which codec"
            )
        # Each look at it copies it.
        data = frame.encoded_video.data
        if not data:
            raise InvalidInputError("the access unit is empty")
        unit = frame.encoded_video
        return AccessUnit(data, unit.key_frame, unit.decode_only)
    if video is not None:
        raise InvalidInputError(
            f"the frame is a picture, but the stream's options say that it is {video.codec.value} "
            "video; open another stream for pictures"
        )
    return EncodedImage(frame.encoded) if kind == "encoded" else _raw_from_wire(frame.raw)


def _raw_from_wire(raw: detector_pb2.RawImage) -> RawImage:
    if raw.pixel_format not in _FORMAT_FROM_WIRE:
        raise InvalidInputError(f"unknown pixel format {raw.pixel_format}")
    return RawImage(raw.width, raw.height, _FORMAT_FROM_WIRE[raw.pixel_format], raw.data)


def frame_to_wire(frame_id: int, content: Union[Image, AccessUnit]) -> detector_pb2.Frame:
    """A frame as a client sends it."""
    if isinstance(content, EncodedImage):
        return detector_pb2.Frame(frame_id=frame_id, encoded=content.data)
    if isinstance(content, AccessUnit):
        unit = detector_pb2.AccessUnit(
            data=content.data, key_frame=content.key_frame, decode_only=content.decode_only
        )
        return detector_pb2.Frame(frame_id=frame_id, encoded_video=unit)
    raw = detector_pb2.RawImage(
        width=content.width,
        height=content.height,
        pixel_format=_FORMAT_TO_WIRE[content.pixel_format],
        data=content.data,
    )
    return detector_pb2.Frame(frame_id=frame_id, raw=raw)


def content_bytes(frame: detector_pb2.Frame) -> int:
    """Size of a frame's image, or of its access unit, on the wire."""
    kind = frame.WhichOneof("image")
    if kind == "encoded":
        return len(frame.encoded)
    return len(frame.encoded_video.data if kind == "encoded_video" else frame.raw.data)


def geometry_to_wire(geometry: FrameGeometry) -> stage_pb2.FrameGeometry:
    """The sizes that go with a frame's features."""
    return stage_pb2.FrameGeometry(
        frame_height=geometry.frame_height,
        frame_width=geometry.frame_width,
        input_height=geometry.input_height,
        input_width=geometry.input_width,
        valid_height=geometry.valid_height,
        valid_width=geometry.valid_width,
    )


def geometry_from_wire(wire: stage_pb2.FrameGeometry) -> FrameGeometry:
    """Check and take over the sizes that came with a frame's features.

    Raises:
        InvalidInputError: a size is zero, or the valid part exceeds the input.
    """
    geometry = FrameGeometry(
        frame_height=wire.frame_height,
        frame_width=wire.frame_width,
        input_height=wire.input_height,
        input_width=wire.input_width,
        valid_height=wire.valid_height,
        valid_width=wire.valid_width,
    )
    positive = min(vars(geometry).values()) > 0
    if not positive or not (
        geometry.valid_height <= geometry.input_height
        and geometry.valid_width <= geometry.input_width
    ):
        raise InvalidInputError(f"impossible sizes: {geometry}")
    return geometry


_CODEC_TO_WIRE = {
    Codec.FP32: tensor_pb2.CODEC_FP32,
    Codec.FP16: tensor_pb2.CODEC_FP16,
    Codec.INT8: tensor_pb2.CODEC_INT8,
    Codec.Q6: tensor_pb2.CODEC_Q6,
    Codec.Q5: tensor_pb2.CODEC_Q5,
    Codec.Q4: tensor_pb2.CODEC_Q4,
    Codec.Q3: tensor_pb2.CODEC_Q3,
    Codec.Q2: tensor_pb2.CODEC_Q2,
    Codec.LATENT_FINE: tensor_pb2.CODEC_LATENT_FINE,
    Codec.LATENT: tensor_pb2.CODEC_LATENT,
    Codec.LATENT_COARSE: tensor_pb2.CODEC_LATENT_COARSE,
}
_CODEC_FROM_WIRE: Dict[int, Codec] = {value: codec for codec, value in _CODEC_TO_WIRE.items()}


def codec_to_wire(codec: Optional[Codec]) -> tensor_pb2.Codec:
    """None is CODEC_UNSPECIFIED: the bundle's default."""
    return tensor_pb2.CODEC_UNSPECIFIED if codec is None else _CODEC_TO_WIRE[codec]


def codec_from_wire(value: int) -> Optional[Codec]:
    """CODEC_UNSPECIFIED is None.

    Raises:
        InvalidInputError: no codec has this value.
    """
    if value == tensor_pb2.CODEC_UNSPECIFIED:
        return None
    if value not in _CODEC_FROM_WIRE:
        raise InvalidInputError(f"unknown codec {value}")
    return _CODEC_FROM_WIRE[value]


def known_codec_from_wire(value: int) -> Optional[Codec]:
    """The codec that an answer tells; None where it tells none, or one of a newer version."""
    return _CODEC_FROM_WIRE.get(value)


def latent_rates_from_wire(rates: Iterable[stage_pb2.LatentRate]) -> Tuple[RateFigures, ...]:
    """What a backbone tells of its bundle's latent rates, the finest first.

    A rate that cannot be is left out: nothing is chosen by it then.
    """
    told = {known_codec_from_wire(rate.codec): rate for rate in rates}
    return tuple(
        RateFigures(
            codec,
            told[codec].bytes_per_frame,
            told[codec].bytes_per_key_frame,
            told[codec].average_precision if told[codec].HasField("average_precision") else None,
        )
        for codec in LATENT_CODECS
        if codec in told and _is_possible(told[codec])
    )


def _is_possible(rate: stage_pb2.LatentRate) -> bool:
    sizes = (rate.bytes_per_frame, rate.bytes_per_key_frame)
    return all(0 <= size < _MOST_BYTES for size in sizes) and 0 <= rate.average_precision <= 1


def tensor_to_wire(encoded: EncodedTensor) -> tensor_pb2.Tensor:
    """An encoded tensor as it travels."""
    wire = tensor_pb2.Tensor()
    _write_tensor(encoded, wire)
    return wire


def tensor_from_wire(wire: tensor_pb2.Tensor) -> EncodedTensor:
    """An encoded tensor as it arrived; `common.codec.FeatureCodec` checks its payload.

    Raises:
        InvalidInputError: the codec is unknown or missing, or there are too many dimensions.
    """
    codec = codec_from_wire(wire.codec)
    if codec is None:
        raise InvalidInputError("the tensor names no codec")
    if len(wire.shape) > MAX_RANK:
        raise InvalidInputError(f"a tensor has at most {MAX_RANK} dimensions")
    return EncodedTensor(tuple(wire.shape), codec, wire.data)


def features_to_wire(features: EncodedFeatures) -> stage_pb2.Features:
    """A frame's features as they travel; what is the reference's is left out."""
    wire = stage_pb2.Features()
    write_features(features, wire)
    return wire


def write_features(features: EncodedFeatures, wire: stage_pb2.Features) -> None:
    """As `features_to_wire`, into an empty message that is part of another.

    Protobuf copies a message that is made part of another, with all of its features.
    """
    first, *further = features.tensors
    wire.frame_id = features.frame_id
    _write_tensor(first, wire.tensor)
    for tensor in further:
        _write_tensor(tensor, wire.further_tensors.add())
    if features.geometry is not None:
        wire.geometry.CopyFrom(geometry_to_wire(features.geometry))
    if features.reference_id is not None:
        wire.reference_frame_id = features.reference_id


def _write_tensor(encoded: EncodedTensor, wire: tensor_pb2.Tensor) -> None:
    wire.shape.extend(encoded.shape)
    wire.codec = _CODEC_TO_WIRE[encoded.codec]
    wire.data = encoded.data


def features_from_wire(wire: stage_pb2.Features) -> EncodedFeatures:
    """A frame's features as they arrived; the stage checks their payload and their sizes.

    Raises:
        InvalidInputError: a tensor or the sizes are impossible, there are too many tensors or they
            are of several codecs, or the sizes are missing and no reference has them.
    """
    # Before they are looked at: there may be very many, and of no bytes.
    if len(wire.further_tensors) >= MAX_CUT_TENSORS:
        raise InvalidInputError(f"a frame's features are at most {MAX_CUT_TENSORS} tensors")
    tensors = tuple(tensor_from_wire(tensor) for tensor in (wire.tensor, *wire.further_tensors))
    if len({tensor.codec for tensor in tensors}) > 1:
        raise InvalidInputError("the tensors of a frame's features have to be of one codec")
    is_predicted = wire.HasField("reference_frame_id")
    has_own_geometry = wire.HasField("geometry") or not is_predicted
    return EncodedFeatures(
        frame_id=wire.frame_id,
        tensors=tensors,
        geometry=geometry_from_wire(wire.geometry) if has_own_geometry else None,
        reference_id=wire.reference_frame_id if is_predicted else None,
    )
