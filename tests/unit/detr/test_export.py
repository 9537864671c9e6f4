"""The halves as they are exported, and that a wrong export cannot pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from common.bundle import Architecture, Category, FixedInput, load_bundle
from common.domain.errors import ConfigurationError
from common.domain.placement import Stage
from common.engines.registry import load_engine
from common.vision.position import PADDING_SCORE as SERVED_PADDING_SCORE
from detr.errors import ExportError
from detr.export import Description, export_bundle
from detr.export.bundle import CASES, TOLERANCE, check_halves, frozen_copy
from detr.export.graph import TRACED_SIZE, write_backbone, write_transformer
from detr.export.halves import BackboneHalf, Split, TransformerHalf
from detr.model import DETR
from detr.model.detr import PADDING_SCORE
from tests.unit.detr.conftest import SMALL

DESCRIPTION = Description(
    name="small",
    input=FixedInput(height=64, width=96),
    categories=(Category(class_index=1, id=1, name="person"),),
    license="Apache-2.0",
    origin="a test",
    trained=False,
)


@pytest.fixture(params=["projected", "c5"])
def split(request: pytest.FixtureRequest) -> Split:
    return request.param


def make(changes: dict[str, object], randomise: Callable[[nn.Module], None]) -> DETR:
    model = DETR(Architecture(**{**SMALL.model_dump(), **changes}))
    randomise(model)
    return model.eval()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backbone": "resnet50", "base_width": 4},
        {"dilation": True},
        {"encoder_layers": 0, "decoder_layers": 1},
    ],
)
def test_both_halves_compute_what_the_model_computes(
    changes: dict[str, object],
    split: Split,
    randomise: Callable[[nn.Module], None],
    tmp_path: Path,
) -> None:
    model = make(changes, randomise)
    exported = export_bundle(model, tmp_path / "bundle", DESCRIPTION, split=split)
    assert 0 < exported.max_difference <= TOLERANCE
    # export_bundle has compared; this does so again, apart from it, at a size of its own.
    images, padding = torch.randn(1, 3, 77, 141), torch.zeros(1, 77, 141, dtype=torch.bool)
    with torch.no_grad():
        expected = model(images, padding)
    backbone, transformer = (
        load_engine("onnxruntime", exported.bundle.onnx_path(stage), 1) for stage in Stage
    )
    features = backbone.run({"pixels": images.numpy()})["features"]
    manifest = exported.bundle.manifest
    assert features.shape[1] == manifest.feature_channels
    assert features.shape[2] == -(-77 // manifest.feature_stride)
    mask = np.zeros((1, *features.shape[2:]), np.float32)
    outputs = transformer.run({"features": features, "pos": expected.pos.numpy(), "mask": mask})
    np.testing.assert_allclose(outputs["logits"], expected.logits, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(outputs["boxes"], expected.boxes, atol=TOLERANCE, rtol=0)


def test_what_the_check_covers() -> None:
    assert len({case.input_size for case in CASES} - {TRACED_SIZE}) >= 2
    assert max(len(case.valid_sizes) for case in CASES) == 2
    assert any(valid != case.input_size for case in CASES for valid in case.valid_sizes)


def test_graphs_are_what_tensorrt_8_2_reads(
    small_model: DETR, split: Split, tmp_path: Path
) -> None:
    bundle = export_bundle(small_model, tmp_path / "bundle", DESCRIPTION, split=split).bundle
    operators = {}
    for stage in Stage:
        model = onnx.load(bundle.onnx_path(stage))
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]
        operators[stage] = {node.op_type for node in model.graph.node}
        for initializer in model.graph.initializer:
            values = onnx.numpy_helper.to_array(initializer)
            assert values.dtype == np.float32
            assert np.isfinite(values).all()
    convolution = {"Conv"} if split == "c5" else set()
    assert operators[Stage.BACKBONE] == {"Conv", "Relu", "MaxPool", "Add"}
    # Nothing that computes shapes, and no Slice, Transpose of weights or BatchNormalization.
    assert operators[Stage.TRANSFORMER] <= convolution | {
        "Add",
        "Constant",
        "Div",
        "MatMul",
        "Mul",
        "Pow",
        "ReduceMean",
        "Relu",
        "Reshape",
        "Sigmoid",
        "Softmax",
        "Sqrt",
        "Sub",
        "Transpose",
    }


def test_every_weight_is_an_initializer_of_its_own(split: Split, tmp_path: Path) -> None:
    # Freshly initialised, all biases are equal, which the exporter would store once.
    model = DETR(SMALL)
    bundle = export_bundle(model, tmp_path / "bundle", DESCRIPTION, split=split).bundle
    halves = {Stage.BACKBONE: BackboneHalf, Stage.TRANSFORMER: TransformerHalf}
    for stage, half in halves.items():
        names = {i.name for i in onnx.load(bundle.onnx_path(stage)).graph.initializer}
        assert names == set(half(frozen_copy(model), split).state_dict())


def test_inputs_outputs_and_what_is_dynamic(small_model: DETR, tmp_path: Path) -> None:
    bundle = export_bundle(small_model, tmp_path / "bundle", DESCRIPTION).bundle

    def shapes(values: list[onnx.ValueInfoProto]) -> dict[str, list[str | int]]:
        return {
            value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in values
        }

    backbone = onnx.load(bundle.onnx_path(Stage.BACKBONE)).graph
    transformer = onnx.load(bundle.onnx_path(Stage.TRANSFORMER)).graph
    assert shapes(backbone.input) == {"pixels": ["batch", 3, "height", "width"]}
    assert shapes(backbone.output) == {"features": ["batch", 32, "rows", "columns"]}
    assert shapes(transformer.input) == {
        "features": ["batch", 32, "rows", "columns"],
        "pos": ["pos_batch", 32, "rows", "columns"],
        "mask": ["batch", "rows", "columns"],
    }
    assert shapes(transformer.output) == {"logits": ["batch", 7, 6], "boxes": ["batch", 7, 4]}


def write_halves(model: DETR, folder: Path) -> tuple[Path, Path]:
    backbone, transformer = folder / "backbone.onnx", folder / "transformer.onnx"
    write_backbone(BackboneHalf(frozen_copy(model), "projected"), backbone)
    write_transformer(TransformerHalf(frozen_copy(model), "projected"), 32, 32, transformer)
    return backbone, transformer


@pytest.mark.parametrize(
    "parameter",
    [
        "backbone.0.body.layer4.1.bn2.bias",
        "transformer.decoder.layers.1.multihead_attn.out_proj.bias",
        "bbox_embed.layers.2.bias",
    ],
)
def test_halves_of_other_weights_are_found_out(
    small_model: DETR, parameter: str, tmp_path: Path
) -> None:
    backbone, transformer = write_halves(small_model, tmp_path)
    assert check_halves(small_model, backbone, transformer) <= TOLERANCE
    with torch.no_grad():
        # Not all by the same: a LayerNorm would take that out again.
        small_model.state_dict()[parameter][0] += 0.1
    with pytest.raises(ExportError, match="differ from the model"):
        check_halves(small_model, backbone, transformer)


def test_outputs_that_are_not_numbers_are_found_out(small_model: DETR, tmp_path: Path) -> None:
    with torch.no_grad():
        small_model.class_embed.bias[0] = float("nan")
    with pytest.raises(ExportError, match="differ from the model by nan"):
        check_halves(small_model, *write_halves(small_model, tmp_path))


def test_the_model_is_left_as_it_was(small_model: DETR, tmp_path: Path) -> None:
    before = {key: tensor.clone() for key, tensor in small_model.state_dict().items()}
    export_bundle(small_model.train(), tmp_path / "bundle", DESCRIPTION)
    assert small_model.training
    after = small_model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_model_trained_with_batch_norm_exports(
    randomise: Callable[[nn.Module], None], tmp_path: Path
) -> None:
    model = DETR(SMALL, norm=nn.BatchNorm2d)
    randomise(model)
    bundle = export_bundle(model, tmp_path / "bundle", DESCRIPTION).bundle
    pixels = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    features = load_engine("onnxruntime", bundle.onnx_path(Stage.BACKBONE), 1).run(
        {"pixels": pixels}
    )["features"]
    model.eval()
    with torch.no_grad():
        expected = model.input_proj(model.backbone.body(torch.from_numpy(pixels)))
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_manifest(small_model: DETR, tmp_path: Path) -> None:
    bundle = export_bundle(
        small_model, tmp_path / "deep" / "bundle", DESCRIPTION, split="c5"
    ).bundle
    manifest = bundle.manifest
    assert bundle == load_bundle(tmp_path / "deep" / "bundle")
    assert manifest.architecture == SMALL
    assert (manifest.split, manifest.feature_channels, manifest.feature_stride) == ("c5", 64, 32)
    assert (manifest.name, manifest.trained) == ("small", False)
    assert manifest.categories == DESCRIPTION.categories
    assert sorted(path.name for path in bundle.folder.iterdir()) == [
        "backbone.onnx",
        "bundle.json",
        "transformer.onnx",
    ]
    assert list((tmp_path / "deep").iterdir()) == [bundle.folder]


def test_nothing_is_overwritten_unasked(small_model: DETR, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    first = export_bundle(small_model, out, DESCRIPTION).bundle
    with pytest.raises(ConfigurationError, match="holds a bundle already"):
        export_bundle(small_model, out, DESCRIPTION)
    second = export_bundle(small_model, out, DESCRIPTION, split="c5", overwrite=True).bundle
    assert first.digest != second.digest
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match="is not a bundle"):
        export_bundle(small_model, other, DESCRIPTION, overwrite=True)


def test_a_failed_export_leaves_nothing(small_model: DETR, tmp_path: Path) -> None:
    with torch.no_grad():
        small_model.class_embed.bias[0] = float("nan")
    with pytest.raises(ExportError):
        export_bundle(small_model, tmp_path / "bundle", DESCRIPTION)
    assert list(tmp_path.iterdir()) == []


def test_the_mask_means_the_same_in_training_and_serving() -> None:
    assert PADDING_SCORE == SERVED_PADDING_SCORE
