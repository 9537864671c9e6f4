"""Each stage's service time on each node, alone on it and beside the other stage."""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from typing import DefaultDict, Deque, Dict, Mapping, Optional, Tuple

from common.domain.detections import StageTiming
from common.domain.placement import Stage
from services.orchestrator.estimation.estimates import StageEstimate

StageKey = Tuple[str, Stage]

_KEPT_FRAMES = 32
# Of frames that came while the device was at work, these hardly had to wait.
_QUICK_QUANTILE = 0.1
# The other stage counts as busy for so long after its last frame, and two of its own times more.
_BUSY_SECONDS = 0.5

_OTHER = {Stage.BACKBONE: Stage.TRANSFORMER, Stage.TRANSFORMER: Stage.BACKBONE}


class _Times:
    """One stage's latest frames, all in the same circumstances."""

    def __init__(self) -> None:
        self._execute_seconds: Deque[float] = deque(maxlen=_KEPT_FRAMES)
        self._other_seconds: Deque[float] = deque(maxlen=_KEPT_FRAMES)

    def add(self, timing: StageTiming) -> None:
        self._execute_seconds.append(timing.execute_seconds)
        self._other_seconds.append(
            timing.decode_seconds
            + timing.preprocess_seconds
            + timing.encode_seconds
            + timing.postprocess_seconds
        )

    @property
    def execute_seconds(self) -> float:
        return statistics.median(self._execute_seconds)

    @property
    def quick_execute_seconds(self) -> float:
        ordered = sorted(self._execute_seconds)
        return ordered[int(_QUICK_QUANTILE * (len(ordered) - 1))]

    @property
    def other_seconds(self) -> float:
        return statistics.median(self._other_seconds)


class _StageRecord:
    """What is kept of one stage on one node."""

    def __init__(self) -> None:
        self.alone: Optional[_Times] = None
        self.beside: Optional[_Times] = None
        self.frames = 0
        self.latest_at = 0.0
        self.latest_execute_seconds = 0.0

    def add(self, timing: StageTiming, alone: bool, now: float) -> None:
        if alone:
            self.alone = self.alone or _Times()
            self.alone.add(timing)
        else:
            self.beside = self.beside or _Times()
            self.beside.add(timing)
        self.frames += 1
        self.latest_at = now
        self.latest_execute_seconds = timing.execute_seconds

    def busy(self, now: float) -> bool:
        return now - self.latest_at <= _BUSY_SECONDS + 2 * self.latest_execute_seconds

    @property
    def execute_seconds(self) -> float:
        """Alone, if it was seen so; never more than beside the other stage."""
        times = [times.execute_seconds for times in (self.alone, self.beside) if times is not None]
        return min(times)

    @property
    def other_seconds(self) -> float:
        times = self.alone or self.beside
        return 0.0 if times is None else times.other_seconds


class StageTimes:
    """Keeps the service times of all stages.

    A device that both stages share makes each of them look slower than it is alone; frames
    that were served beside the other stage are kept apart, or such a pair would look slower than
    it is, and so would every pair that uses one of its stages.
    """

    def __init__(self, replicas: Optional[Mapping[StageKey, int]] = None) -> None:
        """Begin without any; `replicas` are the processes of each stage, one unless said."""
        self._replicas = dict(replicas or {})
        self._records: DefaultDict[StageKey, _StageRecord] = defaultdict(_StageRecord)

    def replicas_changed(self, key: StageKey, count: int) -> None:
        """So many processes of a stage share its frames now."""
        self._replicas[key] = count

    def observe(
        self, backbone: StageTiming, transformer: StageTiming, *, backlogged: bool, now: float
    ) -> None:
        """Take note of one frame, by the stages that served it.

        Args:
            backbone: what the backbone tells of the frame.
            transformer: what the transformer tells of the frame.
            backlogged: whether more frames of the session were on the same nodes.
            now: when its answer came.
        """
        together = backlogged and backbone.node == transformer.node
        # Both are told before either is noted.
        backbone_alone = not together and self._is_alone(backbone.node, Stage.BACKBONE, now)
        transformer_alone = not together and self._is_alone(
            transformer.node, Stage.TRANSFORMER, now
        )
        self._records[backbone.node, Stage.BACKBONE].add(backbone, backbone_alone, now)
        self._records[transformer.node, Stage.TRANSFORMER].add(transformer, transformer_alone, now)

    def estimates(
        self, now: float, shared_seconds: Mapping[str, float]
    ) -> Dict[StageKey, StageEstimate]:
        """Every stage that was measured.

        Args:
            now: seconds, of the clock of `observe`.
            shared_seconds: by node, between two frames while it served both stages, saturated.
        """
        return {key: self._estimate(key, now, shared_seconds.get(key[0])) for key in self._records}

    def _is_alone(self, node: str, stage: Stage, now: float) -> bool:
        other = self._records.get((node, _OTHER[stage]))
        return other is None or not other.busy(now)

    def _estimate(
        self, key: StageKey, now: float, shared_seconds: Optional[float]
    ) -> StageEstimate:
        record = self._records[key]
        execute_seconds = record.execute_seconds
        if record.alone is None:
            if shared_seconds is not None:
                execute_seconds *= self._deflation(key[0], shared_seconds)
            elif record.beside is not None:
                # To be told too fast means to be tried, and seen alone.
                execute_seconds -= self._waited_seconds(key)
                execute_seconds = min(execute_seconds, record.beside.quick_execute_seconds)
        return StageEstimate(
            execute_seconds=execute_seconds,
            compute_seconds=execute_seconds + record.other_seconds,
            frames=record.frames,
            age_seconds=max(0.0, now - record.latest_at),
            replicas=self._replicas.get(key, 1),
        )

    def _waited_seconds(self, key: StageKey) -> float:
        """What a frame that came while the other stage was busy has waited for it, on average."""
        node, stage = key
        other = self._records.get((node, _OTHER[stage]))
        if other is None:
            return 0.0
        # Half of its execution; and a device that is shared by turns is never more than halved.
        return min(other.execute_seconds, self._records[key].execute_seconds) / 2

    def _deflation(self, node: str, shared_seconds: float) -> float:
        """How much of both stages' times, each seen beside the other, the node had for a frame."""
        both = [self._records.get((node, stage)) for stage in Stage]
        beside = [record.beside for record in both if record is not None]
        seconds = sum(times.execute_seconds for times in beside if times is not None)
        return min(1.0, shared_seconds / seconds) if seconds > 0 else 1.0
