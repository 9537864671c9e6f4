"""D-FINE (https://arxiv.org/abs/2410.13842): HGNetV2, a hybrid encoder, boxes as distributions."""

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
NAME = "d_fine"
_HGNET = Fields(
    # D-FINE builds its projections by `hidden_sizes`; the number of depths is that of stages.
    honoured=names(
        "depths embedding_size hidden_act hidden_sizes num_channels out_features out_indices "
        "stage_downsample "
        "stage_downsample_strides stage_in_channels stage_kernel_size stage_light_block "
        "stage_mid_channels stage_num_blocks stage_numb_of_layers stage_out_channels "
        "stem_channels stem_strides use_learnable_affine_block"
    ),
    only={"num_channels": (3,)},
    irrelevant=names("layer_type stage_names"),
)
FIELDS = Fields(
    honoured=HONOURED
    | names(
        "depth_mult eval_idx layer_scale lqe_hidden_dim lqe_layers max_num_bins reg_scale "
        "top_prob_values up"
    ),
    only=ONLY,
    irrelevant=names("head_dim"),
    inner={"backbone_config": {"hgnet_v2": _HGNET}},
)


class DFine:
    """See `detr.families.base.Family`."""

    name = NAME
    model_types = (NAME,)
    samples_discretely = True
    fields = FIELDS

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """See the Protocol."""
        return build_model(NAME, "DFine", self.fields.checked(config))

    def read(self, folder: Path, config: Mapping[str, Any]) -> nn.Module:
        """See the Protocol."""
        return load_model(
            NAME,
            "DFine",
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
