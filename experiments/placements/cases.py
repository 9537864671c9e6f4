"""Which runs there are, and in which order."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.domain.codec import Codec
from common.domain.placement import Placement, Stage
from experiments.placements.config import UNSHAPED, Config, Link

# Phases of a run: as many frames in flight as the services take, and one after the other.
PIPELINED = "pipelined"
SINGLE = "single"


@dataclass(frozen=True)
class Case:
    """One combination of what is varied.

    Attributes:
        model: name of it.
        placement: of both halves.
        codec: of the features; None where they stay on one node.
        link: megabits a second, or `unshaped`.
    """

    model: str
    placement: Placement
    codec: Codec | None
    link: Link

    @property
    def name(self) -> str:
        """For people and file names."""
        codec = [self.codec.value] if self.codec else []
        return "-".join([self.model, self.placement.value, *codec, link_name(self.link)])

    @property
    def used(self) -> frozenset[tuple[str, Stage]]:
        """The stages that serve it, each as node and stage."""
        return frozenset(
            {
                (self.placement.backbone_node, Stage.BACKBONE),
                (self.placement.transformer_node, Stage.TRANSFORMER),
            }
        )


@dataclass(frozen=True)
class Run:
    """A repetition of a case; `repeat` counts from 1."""

    case: Case
    repeat: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.case.name}-{self.repeat}"


def link_name(link: Link) -> str:
    """As in file names and figures."""
    return UNSHAPED if link == UNSHAPED else f"{link:g}Mbit"


def all_cases(config: Config) -> list[Case]:
    """Every combination once; the codec varies only where features cross to the other node."""
    cases = []
    for model in config.models:
        for placement in config.placements:
            is_split = placement.backbone_node != placement.transformer_node
            for link in config.links:
                for codec in config.codecs if is_split else (None,):
                    cases.append(Case(model.name, placement, codec, link))
    return cases


def ordered_runs(config: Config) -> list[Run]:
    """All runs in random, repeatable order.

    Each repetition of the experiment is one block with every case in an order of its own, so that
    what drifts over hours (temperature, other load) falls on all cases alike.
    """
    chance = random.Random(config.seed)
    runs = []
    for repeat in range(1, config.repeats + 1):
        block = all_cases(config)
        chance.shuffle(block)
        runs += [Run(case, repeat) for case in block]
    return runs


def remaining_seconds(left: Sequence[Run], taken: Mapping[Run, float]) -> float | None:
    """How long the runs that are left will take; None while nothing is known.

    A run is taken to last as its case did before, else as its model's runs did, else as all did.
    """
    if not taken:
        return None
    overall = statistics.fmean(taken.values())
    total = 0.0
    for run in left:
        same = [seconds for each, seconds in taken.items() if each.case == run.case]
        alike = [seconds for each, seconds in taken.items() if each.case.model == run.case.model]
        total += statistics.fmean(same or alike or [overall])
    return total
