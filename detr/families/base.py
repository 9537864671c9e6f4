"""What a family of detection transformers has to tell so that Tandem can split its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from common.bundle import (
    Category,
    CutTensor,
    InputPolicy,
    Normalization,
    Opset,
    RecommendedPrecision,
    Scoring,
)


@dataclass(frozen=True)
class Preparation:
    """How frames become pixels: the size and policy, and the normalisation."""

    input: InputPolicy
    normalization: Normalization


@dataclass(frozen=True)
class SplitModel:
    """A model in two halves, and all that its bundle says of it.

    Attributes:
        family: its name.
        whole: what the halves are compared with: pixels [N,3,H,W] and padding, bool [N,H,W], to
            logits [N,Q,K] (with softmax [N,Q,K+1]) and boxes [N,Q,4], cx, cy, w, h in 0..1.
        backbone: pixels [N,3,H,W] to the cut tensors, in their order.
        transformer: the cut tensors (and `pos` and `mask`, if there are `position_channels`) to
            logits and boxes.
        cut: what crosses it, finest first.
        preparation: how frames are prepared.
        scoring: how logits become scores.
        opset: of each half's graph.
        precision: that each half is best computed in.
        configuration: what determines the graphs, for people and for rebuilding.
        position_channels: of the positional encoding that the transformer half takes; None: none.
    """

    family: str
    whole: nn.Module
    backbone: nn.Module
    transformer: nn.Module
    cut: tuple[CutTensor, ...]
    preparation: Preparation
    scoring: Scoring
    opset: Opset
    precision: RecommendedPrecision
    configuration: Mapping[str, Any]
    position_channels: int | None = None


@dataclass(frozen=True)
class ImportedFamilyModel:
    """A model that was read from a folder.

    Attributes:
        split: the model and its halves.
        categories: of the rows of its class head.
        remarks: what was assumed or chosen, in sentences.
    """

    split: SplitModel
    categories: tuple[Category, ...]
    remarks: tuple[str, ...] = field(default=())


class Family(Protocol):
    """One family. All of its methods raise WeightsError on what they cannot honour, by its name."""

    @property
    def name(self) -> str:
        """The family's name, as bundles have it."""

    @property
    def model_types(self) -> tuple[str, ...]:
        """The values of `model_type` in `config.json` that it recognises."""

    @property
    def samples_discretely(self) -> bool:
        """Whether its deformable attention can take the nearest cell instead of interpolating."""

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """Return a model with random weights from the content of `config.json`."""

    def read(self, folder: Path, config: Mapping[str, Any]) -> nn.Module:
        """Return the model with the weights of a Hugging Face folder, in evaluation mode."""

    def preparation(self, stated: Mapping[str, Any], config: Mapping[str, Any]) -> Preparation:
        """Return how frames are prepared.

        Args:
            stated: the content of `preprocessor_config.json`; empty if there is none.
            config: the content of `config.json`.
        """

    def require_input(self, model: nn.Module, preparation: Preparation) -> None:
        """Refuse an input that the model cannot take."""

    def split(self, model: nn.Module, preparation: Preparation) -> SplitModel:
        """Cut a model; its copies are cut, and it is not changed."""
