"""The model's parts against torch's own, and what training relies on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from common.bundle import Architecture
from detr.model import DETR, FrozenBatchNorm2d
from detr.model.backbone import resize_padding
from detr.model.resnet import ResNet
from detr.model.transformer import MultiheadAttention
from tests.unit.detr.conftest import SMALL


def test_state_dict_is_the_official_checkpoints() -> None:
    with torch.device("meta"):
        state = DETR(Architecture(backbone="resnet50")).state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    assert len(shapes) == 458
    assert sum(key.startswith("backbone.0.body.") for key in shapes) == 53 + 212
    # One key of each kind, as listed from the published file.
    expected = {
        "backbone.0.body.conv1.weight": (64, 3, 7, 7),
        "backbone.0.body.bn1.running_var": (64,),
        "backbone.0.body.layer1.0.conv3.weight": (256, 64, 1, 1),
        "backbone.0.body.layer2.0.downsample.0.weight": (512, 256, 1, 1),
        "backbone.0.body.layer2.0.downsample.1.running_mean": (512,),
        "backbone.0.body.layer3.5.bn2.bias": (256,),
        "input_proj.weight": (256, 2048, 1, 1),
        "input_proj.bias": (256,),
        "transformer.encoder.layers.5.self_attn.in_proj_weight": (768, 256),
        "transformer.encoder.layers.0.self_attn.in_proj_bias": (768,),
        "transformer.encoder.layers.0.self_attn.out_proj.weight": (256, 256),
        "transformer.encoder.layers.0.linear1.weight": (2048, 256),
        "transformer.encoder.layers.0.norm2.weight": (256,),
        "transformer.decoder.layers.5.multihead_attn.in_proj_weight": (768, 256),
        "transformer.decoder.layers.0.linear2.weight": (256, 2048),
        "transformer.decoder.layers.0.norm3.bias": (256,),
        "transformer.decoder.norm.weight": (256,),
        "query_embed.weight": (100, 256),
        "class_embed.weight": (92, 256),
        "bbox_embed.layers.2.bias": (4,),
    }
    assert {key: shapes.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ("backbone", "parameters"),
    # Millions of parameters, norms included, of the published and reproduced models.
    [("resnet18", 28.84), ("resnet34", 38.94), ("resnet50", 41.52), ("resnet101", 60.46)],
)
def test_number_of_parameters(backbone: str, parameters: float) -> None:
    with torch.device("meta"):
        model = DETR(Architecture(backbone=backbone), norm=nn.BatchNorm2d)
    count = sum(parameter.numel() for parameter in model.parameters())
    norms = sum(
        parameter.numel()
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d)
        for parameter in module.parameters()
    )
    assert (count - norms) / 1e6 == pytest.approx(parameters, abs=0.05)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_torchs(masked: bool, randomise: Callable[[nn.Module], None]) -> None:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    randomise(theirs)
    ours = MultiheadAttention(32, 4, dropout=0.1).eval()
    ours.load_state_dict(theirs.state_dict())
    query, key, value = torch.randn(2, 5, 32), torch.randn(2, 9, 32), torch.randn(2, 9, 32)
    ignored = torch.zeros(2, 9, dtype=torch.bool)
    if masked:
        ignored[1, 4:] = True
    expected, _ = theirs(query, key, value, key_padding_mask=ignored)
    output = ours(query, key, value, ignored[:, None, None, :] * -1e4)
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)


def test_attention_drops_out_in_training_only() -> None:
    attention = MultiheadAttention(32, 4, dropout=0.5)
    x = torch.randn(1, 6, 32)
    assert not torch.equal(attention(x, x, x), attention(x, x, x))
    attention.eval()
    assert torch.equal(attention(x, x, x), attention(x, x, x))


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_dilated_stage_holds_the_strided_one(
    name: str, randomise: Callable[[nn.Module], None]
) -> None:
    strided = ResNet(name, 8, dilation=False, norm=FrozenBatchNorm2d).eval()
    randomise(strided)
    dilated = ResNet(name, 8, dilation=True, norm=FrozenBatchNorm2d).eval()
    dilated.load_state_dict(strided.state_dict())
    images = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        sparse, dense = strided(images), dilated(images)
    assert dense.shape[2:] == (6, 8)
    scale = float(sparse.abs().max())
    torch.testing.assert_close(dense[:, :, ::2, ::2] / scale, sparse / scale, atol=1e-5, rtol=0)


def test_stages_have_the_strides_of_the_paper() -> None:
    resnet = ResNet("resnet50", 8, dilation=False, norm=FrozenBatchNorm2d)
    shapes = [tuple(stage.shape[1:]) for stage in resnet.stages(torch.randn(1, 3, 64, 96))]
    assert shapes == [(32, 16, 24), (64, 8, 12), (128, 4, 6), (256, 2, 3)]


def test_a_trained_batch_norm_model_loads_into_the_frozen_one(
    randomise: Callable[[nn.Module], None],
) -> None:
    architecture = SMALL.model_copy(update={"encoder_layers": 0})
    trained = DETR(architecture, norm=nn.BatchNorm2d)
    randomise(trained)
    trained.train()
    trained(torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.bool))
    trained.eval()
    frozen = DETR(architecture).eval()
    frozen.load_state_dict(trained.state_dict())
    images, padding = torch.randn(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool)
    with torch.no_grad():
        expected, output = trained(images, padding), frozen(images, padding)
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.boxes, expected.boxes, atol=1e-5, rtol=0)


def test_output_has_every_layer_and_the_memory(small_model: DETR) -> None:
    images, padding = torch.randn(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.bool)
    padding[1, 40:] = True
    output = small_model(images, padding)
    assert output.layer_logits.shape == (2, 2, 7, 6)
    assert output.layer_boxes.shape == (2, 2, 7, 4)
    assert torch.equal(output.logits, output.layer_logits[-1])
    assert torch.equal(output.boxes, output.layer_boxes[-1])
    assert output.memory.shape == output.pos.shape == (2, 32, 2, 3)
    assert output.padding.tolist() == [[[False] * 3] * 2, [[False] * 3] * 2]
    assert not torch.equal(output.layer_logits[0], output.layer_logits[1])


def test_memory_lies_on_the_grid_as_the_features_do(small_model: DETR) -> None:
    # Without an encoder layer the memory is the projected features.
    small_model.transformer.encoder.layers = nn.ModuleList()
    images, padding = torch.randn(1, 3, 64, 96), torch.zeros(1, 64, 96, dtype=torch.bool)
    projected = small_model.input_proj(small_model.backbone.body(images))
    assert torch.equal(small_model(images, padding).memory, projected)


def test_padding_does_not_reach_the_output(small_model: DETR) -> None:
    # Whole cells of padding: what their features hold must not matter.
    images, padding = torch.randn(1, 3, 64, 128), torch.zeros(1, 64, 128, dtype=torch.bool)
    padding[:, :, 64:] = True
    features, cells, pos = small_model.backbone(images, padding)
    projected = small_model.input_proj(features)
    noisy = projected + 5 * cells[:, None] * torch.randn_like(projected)
    mask = cells * -1e4
    queries = small_model.query_embed.weight
    clean, _ = small_model.transformer(projected, pos, mask, queries)
    other, _ = small_model.transformer(noisy, pos, mask, queries)
    assert torch.equal(clean[-1], other[-1])
    unmasked, _ = small_model.transformer(noisy, pos, mask * 0, queries)
    assert not torch.allclose(clean[-1], unmasked[-1], atol=1e-3)


def test_groups_of_queries_do_not_see_each_other(small_model: DETR) -> None:
    images, padding = torch.randn(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool)
    own = small_model.query_embed.weight
    both = torch.cat([own, torch.randn(7, 32)])
    apart = 1 - torch.block_diag(torch.ones(7, 7), torch.ones(7, 7))
    alone = small_model(images, padding)
    masked = small_model(images, padding, query_embed=both, query_mask=apart * -1e4)
    mixed = small_model(images, padding, query_embed=both)
    torch.testing.assert_close(masked.logits[:, :7], alone.logits, atol=1e-6, rtol=0)
    assert not torch.allclose(mixed.logits[:, :7], alone.logits, atol=1e-4)


def test_padding_is_resized_by_nearest_neighbour() -> None:
    padding = torch.zeros(1, 4, 8, dtype=torch.bool)
    padding[:, :, 5:] = True
    # Cells begin at columns 0, 2, 4, 6.
    assert resize_padding(padding, 1, 4).tolist() == [[[False, False, False, True]]]
