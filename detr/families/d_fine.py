"""D-FINE (https://arxiv.org/abs/2410.13842): HGNetV2, a hybrid encoder, boxes as distributions."""

from __future__ import annotations

from detr.families.fields import Fields
from detr.families.hybrid import HONOURED, ONLY, HybridFamily
from detr.importing.known_fields import names

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


class DFine(HybridFamily):
    """See `detr.families.base.Family`."""

    name = NAME
    prefix = "DFine"
    fields = FIELDS
