"""DETR (https://arxiv.org/abs/2005.12872): Tandem's own model, as the other families are told.

What its bundles say of it, and how they are checked, stands in `detr.export`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from common.bundle import Architecture, Opset, RecommendedPrecision, SoftmaxScoring
from common.validation import reason
from detr.errors import WeightsError
from detr.export.bundle import frozen_copy
from detr.export.halves import BackboneHalf, TransformerHalf
from detr.families.base import Preparation, SplitModel
from detr.families.preparation import shortest_edge
from detr.families.sizes import cut_tensors
from detr.importing import import_weights
from detr.importing.hub import stated_by_config
from detr.importing.reading import CONFIG_NAME
from detr.model import DETR

NAME = "detr"


class Detr:
    """See `detr.families.base.Family`."""

    name = NAME
    model_types = (NAME,)
    samples_discretely = False

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """See the Protocol."""
        stated = stated_by_config(config)
        sizes = {field: value for field, (_, value) in stated.sizes.items()}
        sizes.setdefault("classes", len(config.get("id2label") or {}) or 91)
        sizes.setdefault("backbone", "resnet50")
        try:
            architecture = Architecture(
                heads=stated.heads or 8, dilation=bool(stated.dilation), **sizes
            )
        except ValidationError as error:
            first = reason(error.errors()[0])
            raise WeightsError(f"{CONFIG_NAME}: {first}.") from error
        return DETR(architecture).eval()

    def read(self, folder: Path, config: Mapping[str, Any]) -> nn.Module:
        """See the Protocol."""
        return import_weights(folder).model

    def preparation(self, stated: Mapping[str, Any], config: Mapping[str, Any]) -> Preparation:
        """See the Protocol."""
        return shortest_edge(stated, "Detr")

    def require_input(self, model: nn.Module, preparation: Preparation) -> None:
        """It takes any size."""

    def split(self, model: nn.Module, preparation: Preparation) -> SplitModel:
        """See the Protocol."""
        if not isinstance(model, DETR):
            raise TypeError(f"a {type(model).__name__} is no DETR")
        architecture = model.architecture
        backbone = BackboneHalf(frozen_copy(model), "projected").eval()
        return SplitModel(
            family=NAME,
            whole=_Whole(frozen_copy(model)),
            backbone=backbone,
            transformer=TransformerHalf(frozen_copy(model), "projected").eval(),
            cut=cut_tensors(backbone, preparation),
            preparation=preparation,
            scoring=SoftmaxScoring(),
            opset=Opset(),
            precision=RecommendedPrecision(),
            configuration=architecture.model_dump(),
            position_channels=architecture.hidden_dim,
        )


class _Whole(nn.Module):
    def __init__(self, model: DETR) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.model(pixels, padding)
        return outputs.logits, outputs.boxes
