"""The messages of one stream that take features to the transformer, as short as they can be.

Of latents that are coded given the frame sent just before, the message is hardly more than their
payload: both ends know of the frame before what the message would repeat. A payload has some 100
bytes, and what is left out has 12.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from common.domain.codec import EncodedFeatures
from common.domain.errors import InvalidInputError
from common.wire.frames import codec_to_wire, write_features
from protos.tandem.v1 import stage_pb2, tensor_pb2

_LARGEST_ID = (1 << 64) - 1


def next_latents_request(data: bytes, skipped_frame_ids: int = 0) -> stage_pb2.TransformerRequest:
    """The short message of latents that are coded given the frame before.

    Args:
        data: their payload.
        skipped_frame_ids: how many ids lie between that of the frame before and this one's.
    """
    return stage_pb2.TransformerRequest(next_latents=data, skipped_frame_ids=skipped_frame_ids)


class _Before(NamedTuple):
    """What is known of the frame before; not its features, which are large."""

    frame_id: int
    codec: tensor_pb2.Codec


class FeatureMessages:
    """Makes the messages of one stream; they have to be sent in the order of their making."""

    def __init__(self, takes_next_latents: bool) -> None:
        """Begin a stream to a transformer that takes short messages, or is older than they are."""
        self._takes_next_latents = takes_next_latents
        self._before: Optional[_Before] = None

    def of(self, features: EncodedFeatures, traceparent: str = "") -> stage_pb2.TransformerRequest:
        """The message of one frame; `traceparent` is empty where the frame is not traced."""
        before = self._before
        self._before = _Before(features.frame_id, codec_to_wire(features.codec))
        is_short = self._takes_next_latents and not traceparent
        if is_short and before is not None and _all_follows(features, before):
            skipped = features.frame_id - before.frame_id - 1
            return next_latents_request(features.tensors[0].data, skipped)
        request = stage_pb2.TransformerRequest()
        write_features(features, request.features)
        request.features.traceparent = traceparent
        return request


class FeatureMessageReader:
    """Reads the messages of one stream, in the order of their arrival."""

    def __init__(self) -> None:
        """Begin a stream."""
        self._before: Optional[_Before] = None

    def features(self, request: stage_pb2.TransformerRequest) -> stage_pb2.Features:
        """The features of a message, those of a short one as if it had been a long one.

        Raises:
            InvalidInputError: it holds none, or is a short one that follows upon nothing.
        """
        kind = request.WhichOneof("request")
        if kind == "features":
            features = request.features
        elif kind == "next_latents":
            features = self._next(request)
        else:
            raise InvalidInputError(
                "every message after `open` has to be `features` or `next_latents`"
            )
        self._before = _Before(features.frame_id, features.tensor.codec)
        return features

    def _next(self, request: stage_pb2.TransformerRequest) -> stage_pb2.Features:
        before = self._before
        if before is None:
            raise InvalidInputError("`next_latents` cannot be the first frame of a stream")
        frame_id = before.frame_id + 1 + request.skipped_frame_ids
        if frame_id > _LARGEST_ID:
            raise InvalidInputError(f"frame ids end at {_LARGEST_ID}")
        features = stage_pb2.Features(frame_id=frame_id, reference_frame_id=before.frame_id)
        features.tensor.codec = before.codec
        features.tensor.data = request.next_latents
        return features


def _all_follows(features: EncodedFeatures, before: _Before) -> bool:
    """Whether all but the payload of a frame follows from the frame before."""
    return (
        features.reference_id == before.frame_id
        and features.frame_id > before.frame_id
        and codec_to_wire(features.codec) == before.codec
        and features.geometry is None
        and features.tensors[0].shape == ()
    )
