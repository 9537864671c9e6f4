"""The model and all Hugging Face layouts against transformers' own DETR."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

from detr.importing import import_weights

TOLERANCE = 1e-4

# (block, expansion, blocks a stage) as the ResNet paper's table 1 has them
RESNETS = {
    "resnet18": ("basic", 1, [2, 2, 2, 2]),
    "resnet34": ("basic", 1, [3, 4, 6, 3]),
    "resnet50": ("bottleneck", 4, [3, 4, 6, 3]),
    "resnet101": ("bottleneck", 4, [3, 4, 23, 3]),
}


def reference(
    backbone: str, randomise: Callable[[nn.Module], None], **settings: int
) -> DetrForObjectDetection:
    """A random DETR of transformers; its ResNet is its own, not timm's."""
    settings = {"base_width": 16, "layers": 2, "d_model": 64, "heads": 8, "ffn": 96} | settings
    block, expansion, depths = RESNETS[backbone]
    width = settings["base_width"]
    config = DetrConfig(
        use_timm_backbone=False,
        backbone_config=ResNetConfig(
            embedding_size=width,
            hidden_sizes=[width * expansion * 2**stage for stage in range(4)],
            depths=depths,
            layer_type=block,
            out_features=["stage4"],
        ),
        encoder_layers=settings["layers"],
        decoder_layers=settings["layers"],
        d_model=settings["d_model"],
        encoder_attention_heads=settings["heads"],
        decoder_attention_heads=settings["heads"],
        encoder_ffn_dim=settings["ffn"],
        decoder_ffn_dim=settings["ffn"],
        num_queries=10,
        num_labels=91,
    )
    torch.manual_seed(1)
    model = DetrForObjectDetection(config).eval()
    randomise(model)
    return model


def images(*valid_sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Noise [N,3,64,98], 0 on padding, and the padding [N,64,98]."""
    padding = torch.ones(len(valid_sizes), 64, 98, dtype=torch.bool)
    for image, (height, width) in zip(padding, valid_sizes, strict=True):
        image[:height, :width] = False
    noise = torch.randn(len(valid_sizes), 3, 64, 98, generator=torch.Generator().manual_seed(2))
    return noise * ~padding[:, None], padding


def assert_equal_outputs(reference_model: DetrForObjectDetection, weights: Path) -> None:
    model = import_weights(weights).model
    for batch in (images((64, 98)), images((64, 98), (40, 70)), images((33, 98))):
        pixels, padding = batch
        with torch.no_grad():
            expected = reference_model(pixels, pixel_mask=(~padding).long())
            output = model(pixels, padding)
        # Were all queries alike, or the logits tiny, agreement would mean little.
        assert expected.logits.std(dim=1).mean() > 0.01
        torch.testing.assert_close(output.logits, expected.logits, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(output.boxes, expected.pred_boxes, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50"])
def test_parity(backbone: str, randomise: Callable[[nn.Module], None], tmp_path: Path) -> None:
    model = reference(backbone, randomise)
    model.save_pretrained(tmp_path)
    assert_equal_outputs(model, tmp_path)


@pytest.mark.slow
def test_parity_at_full_size(randomise: Callable[[nn.Module], None], tmp_path: Path) -> None:
    model = reference("resnet50", randomise, base_width=64, layers=6, d_model=256, ffn=2048)
    model.save_pretrained(tmp_path)
    assert_equal_outputs(model, tmp_path)


def test_architecture_is_read_off_the_weights(
    randomise: Callable[[nn.Module], None], tmp_path: Path
) -> None:
    reference("resnet101", randomise, base_width=8, layers=3).save_pretrained(tmp_path)
    imported = import_weights(tmp_path)
    assert imported.model.architecture.model_dump() == {
        "backbone": "resnet101",
        "base_width": 8,
        "dilation": False,
        "encoder_layers": 3,
        "decoder_layers": 3,
        "hidden_dim": 64,
        "heads": 8,
        "feedforward_dim": 96,
        "queries": 10,
        "classes": 91,
    }
    assert len(imported.categories) == 80


def timm_names(key: str) -> str:
    """transformers' own ResNet's names to timm's, by hand."""
    key = key.replace("embedder.embedder.convolution", "conv1")
    key = key.replace("embedder.embedder.normalization", "bn1")

    def block(match: re.Match[str]) -> str:
        stage, index, convolution, kind = match.groups()
        name = {"convolution": "conv", "normalization": "bn"}[kind]
        return f"layer{int(stage) + 1}.{index}.{name}{int(convolution) + 1}"

    key = re.sub(
        r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.(\d)\.(convolution|normalization)",
        block,
        key,
    )

    def shortcut(match: re.Match[str]) -> str:
        stage, index, kind = match.groups()
        number = {"convolution": 0, "normalization": 1}[kind]
        return f"layer{int(stage) + 1}.{index}.downsample.{number}"

    return re.sub(
        r"encoder\.stages\.(\d)\.layers\.(\d+)\.shortcut\.(convolution|normalization)",
        shortcut,
        key,
    )


def saved_names(key: str) -> str:
    """Names in memory (transformers 5.1 and later) to those in files on the hub, by hand."""
    key = key.replace("model.backbone.model.", "model.backbone.conv_encoder.model.")
    return key.replace(".mlp.fc", ".fc").replace(".o_proj.", ".out_proj.")


@pytest.mark.parametrize(
    ("layout", "rename"),
    [
        ("hugging face", lambda key: saved_names(timm_names(key))),
        ("hugging face, no timm", saved_names),
        ("hugging face in memory", timm_names),
        ("hugging face in memory, no timm", lambda key: key),
    ],
)
def test_every_layout(
    layout: str,
    rename: Callable[[str], str],
    randomise: Callable[[nn.Module], None],
    tmp_path: Path,
) -> None:
    # The names of a bottleneck's three convolutions include those of a basic block's two.
    model = reference("resnet50", randomise)
    state = {rename(key): tensor for key, tensor in model.state_dict().items()}
    weights = tmp_path / "weights.safetensors"
    save_file(state, weights)
    assert import_weights(weights).layout == layout
    assert_equal_outputs(model, weights)


def test_shards(randomise: Callable[[nn.Module], None], tmp_path: Path) -> None:
    model = reference("resnet18", randomise)
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_equal_outputs(model, tmp_path)


def test_heads_come_from_the_config(randomise: Callable[[nn.Module], None], tmp_path: Path) -> None:
    model = reference("resnet18", randomise, heads=4)
    model.save_pretrained(tmp_path)
    assert_equal_outputs(model, tmp_path)
    (tmp_path / "config.json").unlink()
    assert import_weights(tmp_path).model.architecture.heads == 8
    assert import_weights(tmp_path, heads=4).model.architecture.heads == 4
