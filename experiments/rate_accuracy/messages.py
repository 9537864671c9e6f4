"""What the services send for a frame: the message around its payload.

The services count payloads. Around them stand the frame's id, its sizes and those of its features.
A frame that is coded given the one before leaves out whatever follows from that one. gRPC's and
TCP's own headers, some 60 bytes a message, are not counted here, as those of RTP and UDP are not
counted for video.
"""

from __future__ import annotations

from common.bundle import Manifest, require_detr
from common.domain.codec import LATENT_CODECS, Codec, EncodedFeatures, EncodedTensor
from common.domain.frames import EncodedImage
from common.vision.preprocess import input_geometry
from common.wire.feature_messages import next_latents_request
from common.wire.frames import features_to_wire, frame_to_wire
from protos.tandem.v1 import stage_pb2

FrameSize = tuple[int, int]
"""Height and width, pixels."""


def image_message_bytes(payload_bytes: int, frame_id: int) -> int:
    """Size of the message that takes an encoded image to a backbone.

    Args:
        payload_bytes: of the image.
        frame_id: its number in the stream, from 0.
    """
    frame = frame_to_wire(frame_id, EncodedImage(bytes(payload_bytes)))
    return stage_pb2.BackboneRequest(frame=frame).ByteSize()


def features_message_bytes(
    payload_bytes: int, frame_id: int, size: FrameSize, manifest: Manifest, codec: Codec
) -> int:
    """Size of the message that takes a frame's features, or latents coded alone.

    Args:
        payload_bytes: of the features.
        frame_id: its number in the stream, from 0.
        size: of the frame.
        manifest: of the model.
        codec: of the features.
    """
    manifest = require_detr(manifest, "the rate-accuracy experiment")
    geometry = input_geometry(*size, manifest.input)
    (tensor,), bottleneck = manifest.cut, manifest.bottleneck
    channels = tensor.channels
    if bottleneck is not None and codec in LATENT_CODECS:
        channels = bottleneck.channels
    cells = tensor.grid(geometry.input_height, geometry.input_width)
    encoded = EncodedTensor((1, channels, *cells), codec, bytes(payload_bytes))
    features = features_to_wire(EncodedFeatures(frame_id, (encoded,), geometry))
    return stage_pb2.TransformerRequest(features=features).ByteSize()


def predicted_message_bytes(payload_bytes: int) -> int:
    """Size of the message that takes a frame's latents, coded given those of the frame before.

    Args:
        payload_bytes: of the latents.
    """
    return next_latents_request(bytes(payload_bytes)).ByteSize()
