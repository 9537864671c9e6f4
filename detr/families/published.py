"""The configurations of the sizes that each family is published in, for random weights.

Source: the scripts by which transformers' authors converted the published weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detr.coco.categories import CLASSES, COCO_CATEGORIES
from detr.errors import WeightsError
from detr.importing.hub import NOT_USED
from detr.importing.reading import read_config

_BY_ID = {category.id: category.name for category in COCO_CATEGORIES}
_ALL_IDS = {"id2label": {str(row): _BY_ID.get(row, NOT_USED) for row in range(CLASSES)}}
_CONTIGUOUS = {"id2label": {str(row): each.name for row, each in enumerate(COCO_CATEGORIES)}}


def _hgnet(
    stem: list[int], stages: tuple[list[int], list[int], list[int]], blocks: list[int], layers: int
) -> dict[str, Any]:
    inputs, middles, outputs = stages
    return {
        "model_type": "hgnet_v2",
        "stem_channels": stem,
        "stage_in_channels": inputs,
        "stage_mid_channels": middles,
        "stage_out_channels": outputs,
        "stage_num_blocks": blocks,
        "stage_numb_of_layers": [layers] * 4,
        "hidden_sizes": outputs,
        "out_indices": [2, 3, 4],
    }


_SMALL = ([16, 64, 256, 512], [16, 32, 64, 128], [64, 256, 512, 1024])
_D_FINE_N = {
    "model_type": "d_fine",
    "backbone_config": {
        **_hgnet([3, 16, 16], _SMALL, [1, 1, 2, 1], 3),
        "use_learnable_affine_block": True,
        "out_indices": [3, 4],
    },
    "encoder_in_channels": [512, 1024],
    "encoder_hidden_dim": 128,
    "encoder_ffn_dim": 512,
    "encode_proj_layers": [1],
    "feat_strides": [16, 32],
    "d_model": 128,
    "decoder_ffn_dim": 512,
    "decoder_in_channels": [128, 128],
    "decoder_n_points": [6, 6],
    "decoder_layers": 3,
    "num_feature_levels": 2,
    "depth_mult": 0.5,
    "hidden_expansion": 0.34,
}
_D_FINE_S = {
    "model_type": "d_fine",
    "backbone_config": {
        **_hgnet([3, 16, 16], _SMALL, [1, 1, 2, 1], 3),
        "use_learnable_affine_block": True,
    },
    "encoder_in_channels": [256, 512, 1024],
    "decoder_n_points": [3, 6, 3],
    "decoder_layers": 3,
    "depth_mult": 0.34,
    "hidden_expansion": 0.5,
}
_D_FINE_M = {
    "model_type": "d_fine",
    "backbone_config": {
        **_hgnet(
            [3, 24, 32],
            ([32, 96, 384, 768], [32, 64, 128, 256], [96, 384, 768, 1536]),
            [1, 1, 3, 1],
            4,
        ),
        "use_learnable_affine_block": True,
    },
    "encoder_in_channels": [384, 768, 1536],
    "decoder_n_points": [3, 6, 3],
    "decoder_layers": 4,
    "depth_mult": 0.67,
}
_D_FINE_L = {
    "model_type": "d_fine",
    "backbone_config": _hgnet(
        [3, 32, 48],
        ([48, 128, 512, 1024], [48, 96, 192, 384], [128, 512, 1024, 2048]),
        [1, 1, 3, 1],
        6,
    ),
    "decoder_n_points": [3, 6, 3],
}
_D_FINE_X = {
    "model_type": "d_fine",
    "backbone_config": _hgnet(
        [3, 32, 64],
        ([64, 128, 512, 1024], [64, 128, 256, 512], [128, 512, 1024, 2048]),
        [1, 2, 5, 2],
        6,
    ),
    "encoder_hidden_dim": 384,
    "encoder_ffn_dim": 2048,
    "decoder_in_channels": [384, 384, 384],
    "decoder_n_points": [3, 6, 3],
}


def _rt_detr(depths: list[int], basic: bool, **further: Any) -> dict[str, Any]:
    return {
        "model_type": "rt_detr_v2",
        "backbone_config": {
            "model_type": "rt_detr_resnet",
            "depths": depths,
            "hidden_sizes": [64, 128, 256, 512] if basic else [256, 512, 1024, 2048],
            "layer_type": "basic" if basic else "bottleneck",
            "out_indices": [2, 3, 4],
        },
        "encoder_in_channels": [128, 256, 512] if basic else [512, 1024, 2048],
        **further,
    }


def _rf_detr(side: int, decoder_layers: int) -> dict[str, Any]:
    return {
        "model_type": "rf_detr",
        "backbone_config": {
            "model_type": "rf_detr_dinov2",
            "hidden_size": 384,
            "num_attention_heads": 6,
            "image_size": side,
            "patch_size": 16,
            "num_windows": 2,
            "out_indices": [3, 6, 9, 12],
        },
        "decoder_layers": decoder_layers,
        "decoder_n_points": 2,
    }


PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "conditional_detr_r50": {
        "model_type": "conditional_detr",
        "backbone": "resnet50",
        **_ALL_IDS,
    },
    "rt_detr_v2_r18": {
        **_rt_detr([2, 2, 2, 2], True, hidden_expansion=0.5, decoder_layers=3),
        **_CONTIGUOUS,
    },
    "rt_detr_v2_r34": {
        **_rt_detr([3, 4, 6, 3], True, hidden_expansion=0.5, decoder_layers=4),
        **_CONTIGUOUS,
    },
    "rt_detr_v2_r50": {**_rt_detr([3, 4, 6, 3], False), **_CONTIGUOUS},
    "rt_detr_v2_r101": {
        **_rt_detr(
            [3, 4, 23, 3],
            False,
            encoder_ffn_dim=2048,
            encoder_hidden_dim=384,
            decoder_in_channels=[384, 384, 384],
        ),
        **_CONTIGUOUS,
    },
    "d_fine_n": {**_D_FINE_N, **_CONTIGUOUS},
    "d_fine_s": {**_D_FINE_S, **_CONTIGUOUS},
    "d_fine_m": {**_D_FINE_M, **_CONTIGUOUS},
    "d_fine_l": {**_D_FINE_L, **_CONTIGUOUS},
    "d_fine_x": {**_D_FINE_X, **_CONTIGUOUS},
    "rf_detr_nano": {**_rf_detr(384, 2), **_ALL_IDS},
    "rf_detr_small": {**_rf_detr(512, 3), **_ALL_IDS},
    "rf_detr_medium": {**_rf_detr(576, 4), **_ALL_IDS},
    "rf_detr_large": {**_rf_detr(704, 4), **_ALL_IDS},
}
"""By name: the content of `config.json`, as far as it is not the default."""


def published_config(path: Path) -> Mapping[str, Any]:
    """The configuration of a published size by its name, or that of a folder.

    Raises:
        WeightsError: it is neither, or the folder's cannot be read.
    """
    if path.exists():
        return read_config(path)
    if str(path) not in PUBLISHED:
        raise WeightsError(f"{path} is no folder and none of {', '.join(PUBLISHED)}.")
    return PUBLISHED[str(path)]


def require_no_size(path: Path) -> None:
    """Refuse the name of a published size where weights are to be read.

    Raises:
        WeightsError: it is such a name, and no file or folder has it.
    """
    if str(path) in PUBLISHED and not path.exists():
        raise WeightsError(
            f"{path} does not exist; a published size is named so with --random-weights only."
        )
