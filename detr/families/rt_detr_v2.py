"""RT-DETRv2 (https://arxiv.org/abs/2407.17140): a ResNet and a hybrid encoder."""

from __future__ import annotations

from detr.families.fields import Fields
from detr.families.hybrid import HONOURED, ONLY, HybridFamily
from detr.importing.known_fields import names

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


class RtDetrV2(HybridFamily):
    """See `detr.families.base.Family`."""

    name = NAME
    prefix = "RTDetrV2"
    fields = FIELDS
