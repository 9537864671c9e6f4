"""What a family of detection transformers has to tell so that Tandem can split its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from common.bundle import Category, InputPolicy, Normalization


@dataclass(frozen=True)
class CutTensor:
    """A tensor that crosses the cut: its name in both graphs, its channels and its stride."""

    name: str
    channels: int
    stride: int


@dataclass(frozen=True)
class Scoring:
    """How logits become scores: `softmax` with 'no object', or `sigmoid` and the best `top_k`."""

    kind: str
    top_k: int | None = None


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
        opset: of each half's graph, by the stage's name.
        precision: that each half is best computed in, by the stage's name.
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
    opset: Mapping[str, int]
    precision: Mapping[str, str]
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

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """Return a model with random weights from the content of `config.json`."""

    def read(self, folder: Path, config: Mapping[str, Any]) -> nn.Module:
        """Return the model with the weights of a Hugging Face folder, in evaluation mode."""

    def split(self, model: nn.Module, preparation: Preparation) -> SplitModel:
        """Cut a model; its copies are cut, and it is not changed."""
