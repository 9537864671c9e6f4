"""RT-DETRv2 (https://arxiv.org/abs/2407.17140): a ResNet and a hybrid encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from detr.families.base import Preparation, SplitModel
from detr.families.fields import Fields, names
from detr.families.hybrid import HONOURED, ONLY, require_levels, split_levels
from detr.families.loading import build_model, load_model
from detr.families.preparation import NOT_NORMALISED, stretched
from detr.importing.reading import read_safetensors

SIDE = 640
"""Of the input that all published sizes were trained for, pixels."""
NAME = "rt_detr_v2"
_RESNET = Fields(
    honoured=names(
        "depths downsample_in_bottleneck downsample_in_first_stage embedding_size hidden_act "
        "hidden_sizes layer_type out_features out_indices"
    ),
    only={"num_channels": (3,)},
    irrelevant=names("stage_names"),
)
FIELDS = Fields(
    honoured=HONOURED | names("decoder_n_levels"),
    only=ONLY,
    inner={"backbone_config": {"rt_detr_resnet": _RESNET}},
)


class RtDetrV2:
    """See `detr.families.base.Family`."""

    name = NAME
    model_types = (NAME,)
    samples_discretely = True
    fields = FIELDS

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """See the Protocol."""
        return build_model(NAME, "RTDetrV2", self.fields.checked(config))

    def read(self, folder: Path, config: Mapping[str, Any]) -> nn.Module:
        """See the Protocol."""
        return load_model(
            NAME,
            "RTDetrV2",
            self.fields.checked(config),
            read_safetensors(folder),
            folder,
            # It stands for labels that noise was added to, in training.
            may_lack=("denoising_class_embed.weight",),
        )

    def preparation(self, stated: Mapping[str, Any], config: Mapping[str, Any]) -> Preparation:
        """See the Protocol."""
        return stretched(stated, SIDE, NOT_NORMALISED)

    def require_input(self, model: nn.Module, preparation: Preparation) -> None:
        """See the Protocol."""
        require_levels(model, preparation)

    def split(self, model: nn.Module, preparation: Preparation) -> SplitModel:
        """See the Protocol."""
        return split_levels(NAME, self.fields, model, preparation)
