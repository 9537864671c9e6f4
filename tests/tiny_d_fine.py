"""A D-FINE that trains in seconds."""

from __future__ import annotations

import torch

from detr.training.batches import Batch, Sample, collate
from detr.training.recipe import Recipe
from tests.unit.training.conftest import TINY

CONFIGURATION = {
    "num_labels": 10,
    "initializer_range": 0.1,
    "backbone_config": {
        "model_type": "hgnet_v2",
        "initializer_range": 0.1,
        "stem_channels": [3, 4, 4],
        "embedding_size": 4,
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 8, 16, 16],
        "stage_in_channels": [4, 8, 8, 16],
        "stage_mid_channels": [4, 4, 8, 8],
        "stage_out_channels": [8, 8, 16, 16],
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [1, 1, 1, 1],
        "stage_kernel_size": [3, 3, 3, 3],
        "stage_light_block": [False, False, False, False],
        "out_indices": [3, 4],
    },
    "encoder_in_channels": [16, 16],
    "feat_strides": [16, 32],
    "encode_proj_layers": [1],
    "encoder_hidden_dim": 16,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "depth_mult": 0.34,
    "d_model": 16,
    "decoder_in_channels": [16, 16],
    "num_feature_levels": 2,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "num_queries": 6,
    "num_denoising": 4,
    "max_num_bins": 8,
}
NOT_OURS = ("architecture", "parts", "dropout")
RECIPE = {
    **{key: value for key, value in TINY.items() if key not in NOT_OURS},
    "name": "tiny-dfine",
    "family": "d_fine",
    "configuration": CONFIGURATION,
    "input": {"policy": "stretch", "height": 64, "width": 96},
    "norm": "batch",
    "start": {"kind": "scratch"},
}


def tiny_d_fine(**changes) -> Recipe:
    """The recipe, with other values."""
    return Recipe.model_validate({**RECIPE, **changes})


def d_fine_batch(step: int, counts: tuple[int, ...] = (2, 0, 3, 1)) -> Batch:
    """Noise with random boxes."""
    generator = torch.Generator().manual_seed(step)
    samples = []
    for count in counts:
        centre = torch.rand(count, 2, generator=generator) * 0.6 + 0.2
        size = torch.rand(count, 2, generator=generator) * 0.3 + 0.1
        image = torch.rand(3, 64, 96, generator=generator)
        classes = torch.randint(0, 10, (count,), generator=generator)
        samples.append(Sample(image, (64, 96), classes, torch.cat([centre, size], dim=1)))
    return collate(samples)
