"""The torch engine rebuilds the bottleneck's parts from what was exported."""

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common.bundle import BottleneckPart
from common.engines.registry import load_engine
from detr.export.bottleneck_parts import DecoderPart, EncoderPart
from detr.export.graph import export_graph
from detr.model.bottleneck import Bottleneck, BottleneckSizes
from tests.harness import TOY_BUNDLE

SIZES = BottleneckSizes(features=8, channels=5, encoder_width=12, decoder_width=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The toy bundle with the parts of a bottleneck of random weights."""
    torch.manual_seed(0)
    copy = Path(shutil.copytree(TOY_BUNDLE, tmp_path / "toy"))
    bottleneck = Bottleneck(SIZES)
    for half in (bottleneck.encoder, bottleneck.decoder):
        half.mean.copy_(torch.randn(8))
        half.std.copy_(torch.rand(8) + 0.5)
    parts: dict[BottleneckPart, nn.Module] = {
        BottleneckPart.ENCODER: EncoderPart(bottleneck.encoder),
        BottleneckPart.DECODER: DecoderPart(bottleneck.decoder),
    }
    for part, module in parts.items():
        name, other, channels = names_of(part)
        axes = {0: "batch", 2: "rows", 3: "columns"}
        path = copy / f"{part.value}.onnx"
        example = (torch.zeros(1, channels, 5, 7),)
        export_graph(module.eval(), example, path, {name: axes}, {other: axes})
    return copy


def names_of(part: BottleneckPart) -> tuple[str, str, int]:
    if part is BottleneckPart.ENCODER:
        return "features", "latents", SIZES.features
    return "latents", "features", SIZES.channels


@pytest.mark.parametrize("part", list(BottleneckPart))
def test_it_computes_what_onnx_runtime_computes(part: BottleneckPart, folder: Path) -> None:
    name, other, channels = names_of(part)
    path = folder / f"{part.value}.onnx"
    scale = 1 if part is BottleneckPart.ENCODER else 50
    inputs = {name: (scale * np.random.default_rng(1).normal(size=(2, channels, 3, 4))).round(3)}
    inputs = {each: array.astype(np.float32) for each, array in inputs.items()}
    with closing(load_engine("onnxruntime", path, 1)) as engine:
        expected = engine.run(inputs)[other]
    threads = torch.get_num_threads()
    with closing(load_engine("torch", path, threads + 1)) as engine:
        got = engine.run(inputs)
    assert set(got) == {other}
    # An integer that lies between two may fall to either.
    assert np.abs(got[other] - expected).max() <= (1 if part is BottleneckPart.ENCODER else 1e-4)
    assert np.abs(got[other] - expected).mean() < 0.01
    assert np.abs(expected).max() > 1
    # They hold for the whole process, and were chosen for the half.
    assert torch.get_num_threads() == threads
