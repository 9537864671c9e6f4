"""One frame's features on their way to the transformer, and its answer on the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from common.domain.codec import EncodedFeatures
from common.domain.errors import ReferenceMissingError, TandemError
from common.domain.placement import Stage
from common.server.traced_calls import tell_answer
from common.telemetry.tracing import NOT_TRACED, Span
from common.wire.detections import add_category_names, checked_result
from common.wire.errors import error_from_wire
from protos.tandem.v1 import stage_pb2
from services.backbone.stage import FrameFeatures
from services.pipeline.frame_under_way import FrameUnderWay

if TYPE_CHECKING:
    from services.backbone.servicer import BackboneStream


class Question:
    """Has the transformer detect in one frame's features, and answers the frame; see `Asker`."""

    def __init__(
        self, stream: BackboneStream, under_way: FrameUnderWay, features: FrameFeatures
    ) -> None:
        """Ask nothing yet."""
        self._stream = stream
        self._under_way = under_way
        # Not the features, which are large.
        self._kept, self._timing = features.kept, features.timing
        self._call: Span = NOT_TRACED
        # The transformer's answer that it lacked what the latents refer to.
        self._first: Optional[stage_pb2.FrameResult] = None

    def ask(self, features: EncodedFeatures) -> None:
        """Send the features; `answered` or `failed` follows."""
        request = self._request(features)
        try:
            self._stream.transformer.send(request, features.frame_id, self)
        except TandemError as error:
            self.failed(error)

    def answered(self, result: stage_pb2.FrameResult) -> None:
        """See `Asker.answered`."""
        try:
            self._accept(result)
            is_wanted = self._under_way.pending is not None
            if is_wanted and self._kept is not None and _lacks_reference(result):
                # Coded alone, and once, since nothing can be missing then.
                kept, self._kept, self._first = self._kept, None, result
                self._stream.encode_again(kept, self._coded_again)
            else:
                self._answer(result)
        except Exception as error:
            self._under_way.failed(error)

    def failed(self, error: TandemError) -> None:
        """See `Asker.failed`."""
        self._end_call(error)
        self._under_way.failed(error)

    def _coded_again(
        self, features: Optional[EncodedFeatures], error: Optional[BaseException]
    ) -> None:
        """On the event loop, in the order of the codings, which is that of sending too."""
        if error is not None:
            self._under_way.failed(error)
        elif features is not None and self._under_way.pending is not None:
            self.ask(features)

    def _end_call(self, error: BaseException) -> None:
        self._call.fail(type(error).__name__, str(error))
        self._call.end()

    def _request(self, features: EncodedFeatures) -> stage_pb2.TransformerRequest:
        node, size_bytes = self._stream.facts.nodes.transformer, features.payload_bytes
        self._stream.host.metrics.count_bytes(node, "sent", size_bytes)
        self._call = self._under_way.span.call("transfer", node=node, request_bytes=size_bytes)
        return self._stream.messages.of(features, self._call.traceparent)

    def _accept(self, result: stage_pb2.FrameResult) -> None:
        """Check an answer, and take note of it.

        Raises:
            InternalError: no transformer would answer so.
        """
        stream, call = self._stream, self._call
        with call:
            checked_result(
                result, f"transformer on {stream.facts.nodes.transformer}", (Stage.TRANSFORMER,)
            )
            seconds = result.timing.transformer.transfer_seconds
            call.tell(transfer_seconds=seconds)
            tell_answer(call, result)
        add_category_names(result.detections, stream.category_names)
        span = self._under_way.span
        stream.host.metrics.observe_transfer(Stage.TRANSFORMER.value, seconds, span)

    def _answer(self, result: stage_pb2.FrameResult) -> None:
        result.frame_id = self._under_way.frame_id
        if self._first is not None:
            # What the frame cost is what both of its ways cost.
            timing, first = result.timing.transformer, self._first.timing.transformer
            timing.request_bytes += first.request_bytes
            timing.transfer_seconds += first.transfer_seconds
        self._timing.codec = self._stream.codec
        self._under_way.served(result, self._timing)


def _lacks_reference(result: stage_pb2.FrameResult) -> bool:
    if result.WhichOneof("result") != "error":
        return False
    return isinstance(error_from_wire(result.error), ReferenceMissingError)
