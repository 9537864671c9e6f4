"""One stream along a route: the frames under way on it, and their order."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
)

from common.domain.codec import Codec
from common.domain.errors import TandemError, UnavailableError
from common.wire.stage_client import StageStream
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.session.groups import NOTHING, DecoderProgress, Lack, Place
from services.orchestrator.session.turns import Turn, Turns

if TYPE_CHECKING:
    from services.orchestrator.session.frame_encoding import FrameEncoder


# Frames of video that a new stream's decoder is sent at once before it serves the next one.
_MOST_CAUGHT_UP = 8


def decode_only(frames: Sequence[detector_pb2.Frame]) -> Iterator[stage_pb2.BackboneRequest]:
    """The requests of these frames; each is made when it is sent, since it is a copy.

    They are part of no trace: what served such a frame, if anything did, is in its trace already.
    """
    for frame in frames:
        request = stage_pb2.BackboneRequest(decode_only=frame)
        request.decode_only.traceparent = ""
        yield request


class StreamTerms(NamedTuple):
    """What a stream along a route has from its opening to its end.

    Attributes:
        codec: by which its features travel; None is the bundle's default.
        bundle: digest of the bundle that both halves serve it with; None: their own choice.
    """

    codec: Optional[Codec] = None
    bundle: Optional[str] = None


@dataclass(eq=False)
class RouteStream:
    """A stream along a route, or its opening, and the frames under way on it.

    Attributes:
        opening: gives the stream.
        terms: of the stream.
        frames: of each a mark, in the order asked.
        extra_seconds: that they may take, all together, since they are large.
        progress: when the oldest of them was answered last, or one came to an idle stream, or it
            began to open; by `time.monotonic`. Not one of the others: a stage that passes over a
            frame would seem to make progress while its client waits for just that frame.
        given_up: why the route was given up; None while it is not.
        was_used: whether any frame has been on it.
        decoder: how far the decoder at its end has come, if its frames are video.
        turns: in which the frames are sent.
        encoder: encodes its frames before they are sent; None: they are sent as they came.
        feeding: sends what is only to be decoded, if anything was ever sent so.
    """

    opening: asyncio.Task[StageStream]
    terms: StreamTerms = StreamTerms()
    frames: List[object] = field(default_factory=list)
    extra_seconds: float = 0.0
    progress: float = field(default_factory=time.monotonic)
    given_up: Optional[UnavailableError] = None
    was_used: bool = False
    decoder: DecoderProgress = field(default_factory=DecoderProgress)
    turns: Turns = field(default_factory=Turns)
    encoder: Optional[FrameEncoder] = None
    feeding: Optional[asyncio.Task[None]] = None

    @property
    def sends_at_once(self) -> bool:
        """Whether a picture can be sent as it came, without waiting for those before it."""
        return self.encoder is None and self.turns.are_free

    def goes_on(self, terms: StreamTerms, place: Optional[Place]) -> bool:
        """Whether a frame can take it at once, for which these terms are wanted."""
        return self.open and self.suits(terms) and self.lacks(place) is not None

    def suits(self, wanted: StreamTerms) -> bool:
        """Whether frames for which these terms are wanted may take it."""
        return self.terms.codec is wanted.codec and self.suits_bundle(wanted.bundle)

    def suits_bundle(self, wanted: Optional[str]) -> bool:
        """Whether frames that are to be served with this bundle may take it; None: with any."""
        return wanted is None or self.terms.bundle in (None, wanted)

    def lacks(self, place: Optional[Place]) -> Optional[Lack]:
        """What has to be sent before a frame; None if the decoder is past it.

        Args:
            place: of the frame; None if it is no video.
        """
        return NOTHING if place is None else self.decoder.lacks(place)

    @property
    def takes_at_once(self) -> bool:
        """Whether what is sent now waits for nothing else."""
        is_fed = self.feeding is not None and not self.feeding.done()
        return self.open and not is_fed and not self.opening.result().writes

    @property
    def ended(self) -> bool:
        """Whether another has to be opened: it could not be, or its stream ended since."""
        if self.given_up is not None:
            return True
        if not self.opening.done():
            return False
        failed = self.opening.cancelled() or self.opening.exception() is not None
        return failed or self.opening.result().lost

    @property
    def open(self) -> bool:
        """Whether a frame can be sent without waiting for the opening."""
        return self.opening.done() and not self.ended

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, not even its opening."""
        return self.opening.done() and not self.frames

    def feed(self, frames: Sequence[detector_pb2.Frame]) -> None:
        """Send frames to be decoded only, without waiting for that."""

        async def fed(turn: Turn) -> None:
            try:
                async with turn:
                    stream = self.opening.result()
                stream.tell(decode_only(frames))
            except (TandemError, asyncio.CancelledError):
                # The stream is lost, or given up: nothing of it is needed any more.
                pass

        self.feeding = asyncio.ensure_future(fed(self.turns.take()))

    def give_up(self, error: UnavailableError) -> None:
        """Fail the frames under way on it."""
        self.given_up = error
        if self.opening.done():
            self.opening.result().abandon()
        else:
            self.opening.cancel()


def waits_for_key_frame(
    wanted: Optional[RouteStream],
    terms: StreamTerms,
    ready: Sequence[RouteStream],
    place: Optional[Place],
) -> bool:
    """Whether a frame of video goes on with another bundle than the one that is wanted.

    A new stream's decoder would have to be brought to the frame by all those of its group, for
    which the frame would wait. So the bundle changes at a key frame, or soon after it.

    Args:
        wanted: the stream with the bundle that is wanted, if there is one.
        terms: that are wanted.
        ready: the streams that frames can take at once, the best last.
        place: of the frame; None if it is no video.
    """
    if place is None or not ready or ready[-1] is wanted:
        return False
    if ready[-1].terms.codec is not terms.codec:
        return False
    lack = place.group.part(0, place.offset) if wanted is None else wanted.lacks(place)
    own = ready[-1].lacks(place)
    if lack is None or own is None:
        return False
    return len(lack.frames) > max(_MOST_CAUGHT_UP, len(own.frames))
