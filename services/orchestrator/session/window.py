"""How many frames of a session are in flight: as few as keep the bottleneck busy."""

from __future__ import annotations

import statistics
from typing import List, NamedTuple, Optional, Tuple

MIN_WINDOW = 2
MAX_WINDOW = 16

# Frames that wait at the bottleneck while it serves another: with none it idles whenever one is
# late, with many they only grow old.
_LEAST_BACKLOG_FRAMES = 0.7
_MOST_BACKLOG_FRAMES = 2.0
# An engine that is nearly always at work, and yet has gaps time after time, waits for frames whose
# other steps take now less and now more: more of them have to wait so that one always does.
_WITH_GAPS_SHARE = 0.75
_WITHOUT_GAPS_SHARE = 0.97
_ROUNDS_WITH_GAPS = 2
_LEAST_UNEVEN_BACKLOG_FRAMES = 1.5
_MOST_UNEVEN_BACKLOG_FRAMES = 3.0
# A live frame that waits grows old: only as many as are at work, and none more once an engine is
# busy nearly all the time.
_LEAST_LIVE_BACKLOG_FRAMES = 0.25
_MOST_LIVE_BACKLOG_FRAMES = 1.0
_BUSY_SHARE = 0.85
# Answers that an estimate is made of, at least; a window that is just filling up misleads.
_LEAST_ROUND_ANSWERS = 8
# Frames in front of it in the link make a transfer this many times as long at most; one that is
# longer throughout a round, by a good part of the latency, is over a link that has become slower.
_SLOWER_LINK_FACTOR = 1 + _MOST_BACKLOG_FRAMES
_SLOWER_LINK_LATENCY_SHARE = 0.2


class Transfer(NamedTuple):
    """One payload's transfer to a stage.

    Attributes:
        payload_bytes: of the picture or the features.
        seconds: on the link and in its buffers.
    """

    payload_bytes: int
    seconds: float


class WaitFreeTransfer:
    """The least that a payload's transfer takes.

    Both the quickest transfer of any payload and the quickest byte bound it from below; the first
    is near where delay prevails, the second where the rate does and payloads differ in size.
    """

    def __init__(self) -> None:
        self._least_seconds = float("inf")
        self._least_seconds_per_byte = float("inf")

    def learn(self, transfer: Transfer) -> float:
        """Take note of a transfer; returns the seconds of it that were no wait."""
        payload_bytes, seconds = transfer
        self._least_seconds = min(self._least_seconds, seconds)
        if not payload_bytes:
            return self._least_seconds
        per_byte = min(self._least_seconds_per_byte, seconds / payload_bytes)
        self._least_seconds_per_byte = per_byte
        return max(self._least_seconds, payload_bytes * per_byte)


class WindowEstimator:
    """Finds a session's window from its own answers; no I/O and no clock in here.

    By Little's law, throughput times the latency of a frame that never waits is the number of
    frames at work; the rest of the window is backlog. The window grows by one while the backlog
    is too short to keep the bottleneck busy, and shrinks by one when frames only wait: the rule of
    TCP Vegas (Brakmo and Peterson, 1995), with the waits in queues as the stages report them.

    Attributes:
        window: frames in flight, `MIN_WINDOW` to `MAX_WINDOW`.
    """

    def __init__(self, *, is_live: bool = False) -> None:
        """Begin small: a window too large would fill queues that are slow to empty.

        Args:
            is_live: whether frames are worth less the longer they wait.
        """
        self.window = MIN_WINDOW
        self._is_live = is_live
        self._began: Optional[float] = None
        self._wait_free_seconds: List[float] = []
        self._links = (WaitFreeTransfer(), WaitFreeTransfer())
        self._every_transfer_waited = True
        self._rounds_with_gaps = 0
        # Whether more frames wait than usual because the engine had gaps.
        self._is_uneven = False

    def observe(
        self,
        now: float,
        latency_seconds: float,
        queue_seconds: float,
        transfers: Tuple[Transfer, Transfer],
        execute_seconds: float = 0.0,
    ) -> None:
        """Take note of the answer to a frame that was in flight while the window was full.

        Args:
            now: when it came; seconds, of any steady clock.
            latency_seconds: from reading the frame to its answer.
            queue_seconds: of these, waiting for an engine.
            transfers: the picture's to the backbone, the features' to the transformer.
            execute_seconds: in the slower of the two engines.
        """
        moving_seconds = sum(link.learn(transfer) for link, transfer in zip(self._links, transfers))
        if self._began is None:
            self._began = now
            return
        transfer_seconds = sum(transfer.seconds for transfer in transfers)
        waits_seconds = transfer_seconds - moving_seconds
        self._every_transfer_waited &= (
            transfer_seconds > _SLOWER_LINK_FACTOR * moving_seconds
            and waits_seconds > _SLOWER_LINK_LATENCY_SHARE * latency_seconds
        )
        self._wait_free_seconds.append(latency_seconds - queue_seconds - waits_seconds)
        answers = len(self._wait_free_seconds)
        elapsed_seconds = now - self._began
        if answers < max(_LEAST_ROUND_ANSWERS, 2 * self.window) or elapsed_seconds <= 0:
            return
        if self._every_transfer_waited:
            # The link has become slower; how slow can be seen only once no frame is in front of
            # another.
            self.window = MIN_WINDOW
            self.reset()
            return
        throughput = answers / elapsed_seconds
        at_work = throughput * statistics.median(self._wait_free_seconds)
        self._adjust(self.window - at_work, throughput * execute_seconds)
        self.pause()

    def pause(self) -> None:
        """Forget the round under way: the client does not fill the window."""
        self._began = None
        self._wait_free_seconds = []
        self._every_transfer_waited = True

    def reset(self) -> None:
        """Forget the links as well: frames take another route now."""
        self._links = (WaitFreeTransfer(), WaitFreeTransfer())
        self._rounds_with_gaps, self._is_uneven = 0, False
        self.pause()

    def _adjust(self, backlog_frames: float, busy_share: float) -> None:
        if self._is_live:
            may_grow = backlog_frames < _LEAST_LIVE_BACKLOG_FRAMES and busy_share < _BUSY_SHARE
            may_shrink = backlog_frames > _MOST_LIVE_BACKLOG_FRAMES
        else:
            has_gaps = self._note_gaps(busy_share)
            may_grow = backlog_frames < (
                _LEAST_UNEVEN_BACKLOG_FRAMES if has_gaps else _LEAST_BACKLOG_FRAMES
            )
            may_shrink = backlog_frames > (
                _MOST_UNEVEN_BACKLOG_FRAMES if self._is_uneven else _MOST_BACKLOG_FRAMES
            )
        if may_grow:
            self.window = min(MAX_WINDOW, self.window + 1)
            self._rounds_with_gaps = 0
        elif may_shrink:
            self.window = max(MIN_WINDOW, self.window - 1)
            self._rounds_with_gaps, self._is_uneven = 0, False

    def _note_gaps(self, busy_share: float) -> bool:
        """Returns whether the slower engine has had gaps for some rounds with this window."""
        has_gaps = _WITH_GAPS_SHARE <= busy_share < _WITHOUT_GAPS_SHARE
        self._rounds_with_gaps = self._rounds_with_gaps + 1 if has_gaps else 0
        has_gaps = self._rounds_with_gaps >= _ROUNDS_WITH_GAPS
        self._is_uneven |= has_gaps
        return has_gaps
