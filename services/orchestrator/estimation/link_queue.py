"""Whether one session's features wait for the link between its stages, and what of them crosses."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from typing import Deque, Dict, List

from common.domain.detections import StageTiming
from common.domain.placement import NodePair
from services.orchestrator.estimation.link_rates import MESSAGE_OVERHEAD_BYTES

_WINDOW_SECONDS = 1.5
# A stream that has just changed has yet to find out how many of its frames to have in flight.
_SETTLING_SECONDS = 1.0
_LEAST_ANSWERS = 6
_LEAST_SPAN_SECONDS = 0.25
# Of the answers, those that other frames waited behind.
_BACKLOGGED_SHARE = 0.7
# Frames that wait for a link reach the engines one by one, and hardly wait there.
_ENGINE_WAIT_SHARE = 0.25


@dataclass(frozen=True)
class _Answer:
    at: float
    backlogged: bool
    payload_bytes: int
    link_seconds: float
    queue_seconds: float
    execute_seconds: float
    frame_link_seconds: float


class LinkQueue:
    """Keeps one session's latest answers, for each node pair that served them."""

    def __init__(self) -> None:
        """Begin without any."""
        self._answers: Dict[NodePair, Deque[_Answer]] = {}

    def observe(
        self,
        node_pair: NodePair,
        backbone: StageTiming,
        transformer: StageTiming,
        *,
        backlogged: bool,
        round_trip_seconds: float,
        now: float,
    ) -> None:
        """Take note of an answer.

        Args:
            node_pair: the nodes that served the frame.
            backbone: what the backbone tells of it.
            transformer: what the transformer tells of it.
            backlogged: whether further frames of the session were waiting.
            round_trip_seconds: of a small message over the link between the nodes; 0: not known.
            now: when the answer came; seconds, of any steady clock.
        """
        answers = self._answers.setdefault(node_pair, deque())
        answers.append(
            _Answer(
                now,
                backlogged,
                transformer.request_bytes,
                transformer.transfer_seconds - round_trip_seconds,
                backbone.queue_seconds + transformer.queue_seconds,
                max(backbone.execute_seconds, transformer.execute_seconds),
                backbone.transfer_seconds,
            )
        )
        while answers[0].at < now - _WINDOW_SECONDS:
            answers.popleft()

    def carried_bytes_per_second(self, node_pair: NodePair, now: float) -> float:
        """What of the session's features crosses the link; 0 where too few do to tell."""
        recent = self._recent(node_pair, now - _WINDOW_SECONDS)
        if not recent or recent[-1].at - recent[0].at < _LEAST_SPAN_SECONDS:
            return 0.0
        crossed = sum(each.payload_bytes + MESSAGE_OVERHEAD_BYTES for each in recent[1:])
        return crossed / (recent[-1].at - recent[0].at)

    def is_full(self, node_pair: NodePair, since: float, now: float) -> bool:
        """Whether frames wait for the link, rather than for engines or for nothing.

        Args:
            node_pair: the nodes that serve the frames.
            since: when their features began to travel as they do.
            now: seconds, of the clock of `observe`.
        """
        settled_at = since + _SETTLING_SECONDS
        recent = self._recent(node_pair, max(settled_at, now - _WINDOW_SECONDS))
        if len(recent) < _LEAST_ANSWERS:
            return False
        waiting = sum(each.backlogged for each in recent) >= _BACKLOGGED_SHARE * len(recent)
        link_seconds = statistics.median(each.link_seconds for each in recent)
        engine_wait_seconds = statistics.median(each.queue_seconds for each in recent)
        longest_other = max(
            statistics.median(each.execute_seconds for each in recent),
            statistics.median(each.frame_link_seconds for each in recent),
        )
        is_slowest = link_seconds > longest_other
        return waiting and is_slowest and engine_wait_seconds < _ENGINE_WAIT_SHARE * link_seconds

    def _recent(self, node_pair: NodePair, since: float) -> List[_Answer]:
        return [each for each in self._answers.get(node_pair, ()) if each.at >= since]
