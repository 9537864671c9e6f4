"""A stage's steps as they lay in time, as far as its timing tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator

from common.domain.detections import StageTiming


@dataclass(frozen=True)
class Step:
    """One step of a frame in a stage; seconds since 1970, by the clock of the stage's node."""

    name: str
    start: float
    end: float


def steps_of(timing: StageTiming) -> Iterator[Step]:
    """The steps, laid out around the execution, whose start is what the timing reports.

    The names are those of the metric `tandem_stage_seconds`. Waits between two steps are not
    reported, except for the engine (`queue`): what comes before the execution ends where the next
    step begins. There are no steps where nothing was executed.
    """
    if timing.execute_seconds <= 0:
        return
    execute = timing.received_at_seconds + timing.execute_after_seconds
    before = execute
    for name in ("queue", "preprocess", "decode"):
        seconds = getattr(timing, f"{name}_seconds")
        yield Step(name, before - seconds, before)
        before -= seconds
    after = execute + timing.execute_seconds
    yield Step("execute", execute, after)
    for name in ("encode", "postprocess"):
        seconds = getattr(timing, f"{name}_seconds")
        if seconds > 0:
            yield Step(name, after, after + seconds)
