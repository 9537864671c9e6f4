"""Models of each family, as small as their configurations allow."""

from typing import Any, Dict, List, Tuple

import numpy as np

from common.bundle import InputPolicy, Normalization
from common.domain.frames import FrameGeometry
from common.vision.preprocess import preprocess

_LEVELS: Dict[str, Any] = {
    "encoder_hidden_dim": 16,
    "encoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "d_model": 16,
    "decoder_layers": 2,
    "decoder_ffn_dim": 16,
    "decoder_attention_heads": 2,
    "num_queries": 12,
}
D_FINE: Dict[str, Any] = {
    **_LEVELS,
    "model_type": "d_fine",
    "backbone_config": {
        "model_type": "hgnet_v2",
        "stem_channels": [3, 4, 4],
        "stage_in_channels": [4, 8, 16, 16],
        "stage_mid_channels": [4, 4, 8, 8],
        "stage_out_channels": [8, 16, 16, 32],
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [2, 2, 2, 2],
        "use_learnable_affine_block": True,
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 16, 16, 32],
        "out_indices": [3, 4],
    },
    "encoder_in_channels": [16, 32],
    "feat_strides": [16, 32],
    "encode_proj_layers": [1],
    "decoder_in_channels": [16, 16],
    "num_feature_levels": 2,
    "decoder_n_points": [3, 2],
    "depth_mult": 0.34,
    "hidden_expansion": 0.34,
    "max_num_bins": 8,
}
RT_DETR_V2: Dict[str, Any] = {
    **_LEVELS,
    "model_type": "rt_detr_v2",
    "backbone_config": {
        "model_type": "rt_detr_resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 16, 16, 16],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
        "out_indices": [2, 3, 4],
    },
    "encoder_in_channels": [16, 16, 16],
    "decoder_in_channels": [16, 16, 16],
    "decoder_n_points": 2,
    "hidden_expansion": 0.5,
}
RF_DETR: Dict[str, Any] = {
    "model_type": "rf_detr",
    "backbone_config": {
        "model_type": "rf_detr_dinov2",
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 96,
        "patch_size": 16,
        "num_windows": 2,
        "out_indices": [1, 3],
        "mlp_ratio": 2,
    },
    "d_model": 16,
    "c2f_num_blocks": 1,
    "decoder_layers": 2,
    "decoder_ffn_dim": 16,
    "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 2,
    "decoder_n_points": 2,
    "num_queries": 12,
    "group_detr": 2,
}
CONDITIONAL_DETR: Dict[str, Any] = {
    "model_type": "conditional_detr",
    "backbone_config": {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 16, 16],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
        "out_features": ["stage4"],
    },
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_layers": 2,
    "decoder_ffn_dim": 16,
    "decoder_attention_heads": 2,
    "num_queries": 12,
}
CONFIGS = {
    config["model_type"]: config for config in (D_FINE, RT_DETR_V2, RF_DETR, CONDITIONAL_DETR)
}
"""By family."""
SIDE = 128
"""Of the input that they are cut for, pixels."""


def frames() -> List[np.ndarray]:
    """Two pictures of noise, uint8 [SIDE,SIDE,3], which no input policy of these models resizes."""
    generator = np.random.default_rng(1)
    return [generator.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(2)]


def prepared(
    pictures: List[np.ndarray], policy: InputPolicy, normalization: Normalization
) -> Tuple[np.ndarray, FrameGeometry]:
    """Pixels [N,3,SIDE,SIDE] and the sizes of each."""
    each = [preprocess(picture, policy, normalization) for picture in pictures]
    return np.concatenate([pixels for pixels, _ in each]), each[0][1]
