"""Norms are exported alike on every processor."""

import copy

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from detr.export.graph import export_graph
from detr.families.norms import settle_norms


def convolution_and_norm():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(512)
    for values in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(values)
    nn.init.uniform_(norm.running_var, 1e-3, 3)
    return nn.Sequential(nn.Conv2d(3, 512, 1, bias=False), norm).eval()


def test_what_the_exporter_folds_is_rounded_as_ieee_754_says(tmp_path):
    """Not so without: torch's square root is not, on AMD's processors for example."""
    model = convolution_and_norm()
    convolution, norm = copy.deepcopy(model)
    mean, variance, weight, bias = (
        getattr(norm, name).detach().numpy()
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    scale = weight / np.sqrt(variance + np.float32(norm.eps))
    expected = {
        (512, 3, 1, 1): convolution.weight.detach().numpy() * scale[:, None, None, None],
        (512,): bias - mean * scale,
    }
    settle_norms(model)
    pixels = torch.zeros(1, 3, 4, 4)
    path, feeds = tmp_path / "a.onnx", [{"x": pixels.numpy()}]
    export_graph(model, (pixels,), path, {"x": {}}, {"y": {}}, feeds=feeds)
    graph = onnx.load(path).graph
    assert [node.op_type for node in graph.node] == ["Conv"]
    found = [numpy_helper.to_array(each) for each in graph.initializer]
    assert {each.shape: each.tobytes() for each in found} == {
        shape: values.tobytes() for shape, values in expected.items()
    }


def test_a_settled_norm_computes_what_it_did():
    model = convolution_and_norm()
    settled = copy.deepcopy(model)
    settle_norms(settled)
    pixels = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(settled(pixels), model(pixels), rtol=1e-4, atol=1e-5)
