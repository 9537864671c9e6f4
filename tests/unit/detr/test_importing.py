"""Reading weights: the official layout, and that nothing unsafe or unfitting passes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from common.bundle import Architecture
from detr.coco.categories import COCO_CATEGORIES
from detr.errors import WeightsError
from detr.importing import import_weights
from detr.model import DETR
from tests.unit.detr.conftest import SMALL

State = dict[str, Tensor]


def save(content: object, folder: Path) -> Path:
    path = folder / "weights.pth"
    torch.save(content, path)
    return path


@pytest.fixture
def state(small_model: DETR) -> State:
    return small_model.state_dict()


def test_official_checkpoint(small_model: DETR, tmp_path: Path) -> None:
    imported = import_weights(save({"model": small_model.state_dict()}, tmp_path), heads=4)
    assert imported.layout == "official"
    assert imported.model.architecture == SMALL
    assert not imported.model.training
    images, padding = torch.randn(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool)
    expected, output = small_model(images, padding), imported.model(images, padding)
    assert torch.equal(output.logits, expected.logits)
    assert torch.equal(output.boxes, expected.boxes)


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "resnet34"},
        {"backbone": "resnet50", "base_width": 4},
        {"backbone": "resnet101", "base_width": 4, "hidden_dim": 64, "heads": 8},
        {"encoder_layers": 0},
        {"encoder_layers": 3, "decoder_layers": 1, "queries": 11, "classes": 91},
        {"feedforward_dim": 20},
        {"dilation": True},
    ],
)
def test_architecture_is_inferred(changes: dict[str, Any], tmp_path: Path) -> None:
    architecture = Architecture(**{**SMALL.model_dump(), **changes})
    path = save({"model": DETR(architecture).state_dict()}, tmp_path)
    imported = import_weights(path, heads=architecture.heads, dilation=architecture.dilation)
    assert imported.model.architecture == architecture


def test_a_bare_state_dict_and_half_precision_are_taken(state: State, tmp_path: Path) -> None:
    path = save({key: tensor.half() for key, tensor in state.items()}, tmp_path)
    model = import_weights(path).model
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


def test_a_training_checkpoint_with_its_arguments_is_taken(state: State, tmp_path: Path) -> None:
    content = {"model": state, "epoch": 3, "args": argparse.Namespace(lr=1e-4)}
    assert import_weights(save(content, tmp_path)).model.architecture.queries == 7


def test_a_trained_norms_batch_count_is_passed_over(tmp_path: Path) -> None:
    trained = DETR(SMALL, norm=nn.BatchNorm2d)
    assert any(key.endswith("num_batches_tracked") for key in trained.state_dict())
    assert import_weights(save({"model": trained.state_dict()}, tmp_path)).layout == "official"


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_refused_and_not_run(state: State, tmp_path: Path) -> None:
    trace = tmp_path / "the code was run"
    path = save({"model": state, "extra": Payload(trace)}, tmp_path)
    with pytest.raises(WeightsError, match="refused"):
        import_weights(path)
    assert not trace.exists()


@pytest.mark.parametrize("heads", [4, 8])
def test_missing_key_is_named(state: State, heads: int, tmp_path: Path) -> None:
    del state["transformer.decoder.layers.1.norm3.bias"]
    with pytest.raises(WeightsError, match=r"decoder\.layers\.1\.norm3\.bias is missing"):
        import_weights(save({"model": state}, tmp_path), heads=heads)


@pytest.mark.parametrize(
    "key",
    [
        "backbone.0.body.conv1.weight",
        "transformer.decoder.layers.0.linear1.weight",
        "query_embed.weight",
        "class_embed.weight",
    ],
)
def test_missing_key_that_tells_a_size_is_named(state: State, key: str, tmp_path: Path) -> None:
    del state[key]
    with pytest.raises(WeightsError, match=key):
        import_weights(save({"model": state}, tmp_path))


def test_missing_block_is_an_error(state: State, tmp_path: Path) -> None:
    kept = {key: tensor for key, tensor in state.items() if ".layer3.1." not in key}
    with pytest.raises(WeightsError, match=r"no ResNet-18.*\(2, 2, 1, 2\) basic blocks"):
        import_weights(save({"model": kept}, tmp_path))


def test_surplus_key_is_named(state: State, tmp_path: Path) -> None:
    state["backbone.1.row_embed.weight"] = torch.zeros(50, 16)
    with pytest.raises(WeightsError, match=r"backbone\.1\.row_embed\.weight is surplus"):
        import_weights(save({"model": state}, tmp_path))


def test_a_layer_beyond_a_gap_is_surplus(state: State, tmp_path: Path) -> None:
    for key in [key for key in state if key.startswith("transformer.encoder.layers.1.")]:
        state[key.replace("layers.1", "layers.2")] = state.pop(key)
    with pytest.raises(WeightsError, match=r"encoder\.layers\.2\.\S+, .* and 7 more are surplus"):
        import_weights(save({"model": state}, tmp_path))


@pytest.mark.parametrize(
    ("key", "shape", "expected"),
    [
        ("bbox_embed.layers.2.weight", (5, 32), (4, 32)),
        ("transformer.encoder.layers.1.linear1.weight", (50, 32), (48, 32)),
        ("transformer.encoder.layers.0.self_attn.in_proj_weight", (64, 32), (96, 32)),
        ("backbone.0.body.layer2.0.bn1.bias", (17,), (16,)),
        ("input_proj.weight", (32, 64), (32, 64, 1, 1)),
    ],
)
def test_wrong_shape_is_named(
    state: State, key: str, shape: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path
) -> None:
    state[key] = torch.zeros(shape)
    with pytest.raises(WeightsError) as caught:
        import_weights(save({"model": state}, tmp_path))
    assert f"{key} has shape {shape}, expected {expected}" in str(caught.value)


def test_a_key_is_named_as_the_file_names_it(state: State, tmp_path: Path) -> None:
    renamed = {
        "model.backbone.conv_encoder.model.conv1.weight": state["backbone.0.body.conv1.weight"],
        "model.input_projection.weight": state["input_proj.weight"],
        "model.decoder.layers.0.fc1.weight": torch.zeros(48, 32),
        "model.query_position_embeddings.weight": torch.zeros(7, 32),
        "model.backbone.conv_encoder.model.layer1.0.conv1.weight": torch.zeros(8, 8, 3, 3),
    }
    path = tmp_path / "weights.safetensors"
    save_file(renamed, path)
    with pytest.raises(WeightsError, match=r"no ResNet"):
        import_weights(path)
    for key, tensor in state.items():
        if key.startswith("backbone"):
            name = key.replace("backbone.0.body.", "model.backbone.conv_encoder.model.")
            renamed[name] = tensor
    renamed["class_labels_classifier.weight"] = torch.zeros(6, 32)
    save_file(renamed, path)
    with pytest.raises(WeightsError, match=r"model\.decoder\.layers\.0\.self_attn\.q_proj\.weight"):
        import_weights(path)


def test_heads_must_divide_the_width(state: State, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="hidden_dim 32 is no multiple of 5 heads"):
        import_weights(save({"model": state}, tmp_path), heads=5)


def test_other_tensors_are_not_a_detr(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not DETR's keys.*: linear"):
        import_weights(save({"linear.weight": torch.zeros(2, 2)}, tmp_path))


@pytest.mark.parametrize(
    "content", [[1, 2], {"model": {}}, {"model": {"epoch": 3}}, {"model": torch.zeros(2)}]
)
def test_checkpoints_without_tensors(content: object, tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        import_weights(save(content, tmp_path))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        import_weights(tmp_path / "nothing.pth")
    with pytest.raises(WeightsError, match=r"neither model\.safetensors nor"):
        import_weights(tmp_path)
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("this is not a checkpoint")
        with pytest.raises(WeightsError, match=name):
            import_weights(tmp_path / name)


def test_an_index_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    index = {"weight_map": {"query_embed.weight": "../elsewhere.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="outside its folder"):
        import_weights(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = {"weight_map": {"query_embed.weight": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=r"model-1\.safetensors"):
        import_weights(tmp_path)


def test_config_tells_heads_dilation_and_names(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "model.safetensors")
    config = {
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "dilation": True,
        "id2label": {"0": "bolt", "1": "nut"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    imported = import_weights(tmp_path)
    assert (imported.model.architecture.heads, imported.model.architecture.dilation) == (2, True)
    assert [c.name for c in imported.categories] == ["bolt", "nut", "class 2", "class 3", "class 4"]
    overruled = import_weights(tmp_path, heads=4, dilation=False).model.architecture
    assert (overruled.heads, overruled.dilation) == (4, False)


@pytest.mark.parametrize(
    "config",
    [
        "[]",
        "{",
        '{"encoder_attention_heads": "eight"}',
        '{"encoder_attention_heads": 4, "decoder_attention_heads": 8}',
    ],
)
def test_bad_configs_are_refused(state: State, config: str, tmp_path: Path) -> None:
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(WeightsError):
        import_weights(tmp_path)


def test_coco_categories() -> None:
    names = {category.id: category.name for category in COCO_CATEGORIES}
    assert len(names) == 80
    assert set(range(1, 91)) - set(names) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    known = {1: "person", 13: "stop sign", 27: "backpack", 44: "bottle", 67: "dining table"}
    known |= {70: "toilet", 84: "book", 90: "toothbrush"}
    assert {category_id: names[category_id] for category_id in known} == known
    assert all(category.class_index == category.id for category in COCO_CATEGORIES)
