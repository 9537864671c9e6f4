"""Exported halves compute what transformers' whole model computes."""

import numpy as np
import onnx
import pytest
import torch

from detr.errors import ExportError
from detr.families.graphs import check_halves, write_halves
from tests.unit.engines.test_tensorrt_graphs import refusals
from tests.unit.families.conftest import built, cut

EVERY = ["d_fine", "rt_detr_v2", "rf_detr", "conditional_detr", "d_fine discrete"]
# Without what TensorRT 8.2 lacks. It reads discrete sampling.
READABLE = ["conditional_detr", "d_fine discrete"]


@pytest.mark.parametrize("name", EVERY)
def test_the_halves_equal_the_model_alone_and_in_a_batch(splits, exported, name):
    assert check_halves(splits[name], *exported[name]) <= 1e-4


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [("d_fine", 96, 160), ("rt_detr_v2", 96, 160), ("rf_detr", 160, 160)],
)
def test_the_halves_of_another_input_size_equal_the_model(name, height, width, tmp_path):
    """Conditional DETR's halves take any size, and are compared at several each time."""
    split = cut(name, built(name), height, width)
    paths = tmp_path / "backbone.onnx", tmp_path / "transformer.onnx"
    write_halves(split, *paths)
    assert check_halves(split, *paths) <= 1e-4


def test_other_weights_are_told(splits, exported):
    """The comparison would see a half of another model."""
    other = splits["rt_detr_v2"]
    with pytest.raises(ExportError, match="differ"), torch.no_grad():
        weight = other.whole.model.model.decoder.layers[1].mlp.fc1.weight
        before = weight.clone()
        try:
            weight.mul_(1.05)
            check_halves(other, *exported["rt_detr_v2"])
        finally:
            weight.copy_(before)


@pytest.mark.parametrize("name", EVERY)
def test_tensorrt_8_2_reads_every_backbone_half(exported, name):
    assert refusals(onnx.load(str(exported[name][0]))) == []


@pytest.mark.parametrize("name", EVERY)
def test_only_sampling_keeps_a_transformer_half_from_tensorrt_8_2(exported, name):
    lacking = refusals(onnx.load(str(exported[name][1])))
    assert lacking == ([] if name in READABLE else ["opset 16 of ''", "GridSample"])


@pytest.mark.parametrize("name", EVERY)
def test_graphs_ask_for_no_size_but_the_batch(exported, name):
    """What depends on shapes alone was computed at the export, so that graphs stay small."""
    for path in exported[name]:
        graph = onnx.load(str(path)).graph
        assert not [node for node in graph.node if node.op_type in ("Constant", "NonZero", "If")]
        assert sum(node.op_type == "Shape" for node in graph.node) <= 20


def test_cut_tensors_are_levels_by_stride(splits):
    assert [(t.name, t.channels, t.stride) for t in splits["rt_detr_v2"].cut] == [
        ("features_8", 16, 8),
        ("features_16", 16, 16),
        ("features_32", 16, 32),
    ]
    assert [t.name for t in splits["rf_detr"].cut] == ["features"]
    assert splits["conditional_detr"].position_channels == 16


def test_discrete_sampling_is_another_computation(splits):
    torch.manual_seed(0)
    pixels, padding = torch.randn(1, 3, 128, 128), torch.zeros(1, 128, 128, dtype=torch.bool)
    with torch.inference_mode():
        one, other = (
            splits[name].whole(pixels, padding)[0].numpy() for name in ("d_fine", "d_fine discrete")
        )
    assert np.abs(one - other).max() > 1e-3


def test_cutting_leaves_the_model_as_it_is(splits):
    model = splits["rf_detr"].whole.model
    assert type(model.model.backbone).__name__ == "RfDetrConvEncoder"
    same = built("rf_detr").state_dict()
    assert all(torch.equal(value, same[key]) for key, value in model.state_dict().items())
