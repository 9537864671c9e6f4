"""A trained bottleneck in a bundle: what its parts compute, and what TensorRT 8.2 reads."""

import numpy as np
import onnx
import pytest
import torch

from common.bundle import BottleneckPart, Category, FixedInput, load_bundle
from common.domain.errors import ConfigurationError
from common.domain.placement import Stage
from common.engines.registry import load_engine
from detr.bottleneck.export import TrainedRun, add_bottleneck, load_run
from detr.bottleneck.training import train_bottleneck
from detr.export.bundle import Description, export_bundle
from detr.model import DETR
from detr.model.bottleneck import LATENT_UNITS, Bottleneck, BottleneckSizes
from tests.unit.bottleneck.test_training import surroundings

SIZES = BottleneckSizes(features=16, channels=4, encoder_width=8, decoder_width=12)


@pytest.fixture
def bundle(teacher, tmp_path):
    description = Description(
        name="tiny",
        input=FixedInput(height=48, width=64),
        categories=(Category(class_index=1, id=1, name="person"),),
        license="Apache-2.0",
        origin="a test",
        trained=False,
    )
    return export_bundle(teacher.model.detr, tmp_path / "bundle", description).bundle.folder


@pytest.fixture
def bottleneck():
    torch.manual_seed(1)
    made = Bottleneck(SIZES)
    with torch.no_grad():
        for part in (made.encoder, made.decoder):
            part.mean.copy_(torch.linspace(-1, 1, 16))
            part.std.copy_(torch.linspace(0.5, 2, 16))
        made.encoder.log_gain.copy_(torch.linspace(0, 2, 4))
        made.decoder.log_gain.copy_(torch.linspace(-2, 0, 4))
    return made


@pytest.fixture
def exported(recipe_of, bottleneck, bundle, tmp_path):
    # The export takes the modules over.
    state = {name: value.clone() for name, value in bottleneck.state_dict().items()}
    add_bottleneck(TrainedRun(recipe_of(), bottleneck, None), bundle, tmp_path / "out")
    fresh = Bottleneck(SIZES)
    fresh.load_state_dict(state)
    return load_bundle(tmp_path / "out"), fresh


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_the_parts_compute_what_was_trained_in_integers(exported, engine):
    bundle, bottleneck = exported
    features = np.random.default_rng(0).standard_normal((2, 16, 3, 5), np.float32)
    encoder = load_engine(engine, bundle.onnx_path(BottleneckPart.ENCODER), 1)
    decoder = load_engine(engine, bundle.onnx_path(BottleneckPart.DECODER), 1)
    latents = encoder.run({"features": features})["latents"]
    assert np.array_equal(latents, np.round(latents)) and latents.shape == (2, 4, 3, 5)
    with torch.inference_mode():
        expected = bottleneck.encoder(torch.from_numpy(features)).numpy()
        decoded = bottleneck.decoder(torch.from_numpy(latents) / LATENT_UNITS).numpy()
    assert np.abs(latents / LATENT_UNITS - expected).max() <= 0.51 / LATENT_UNITS
    restored = decoder.run({"latents": latents})["features"]
    assert np.abs(restored - decoded).max() < 1e-4


def test_the_manifest_has_the_rates_in_latent_units(exported):
    bundle, _ = exported
    described = bundle.manifest.bottleneck
    assert described is not None and described.channels == 4
    rates = {name: (rate.step, rate.keep_within) for name, rate in described.rates.items()}
    assert rates == {"latent-fine": (8, 0), "latent": (16, 16), "latent-coarse": (32, 32)}


def test_the_halves_stay_as_they_were(exported, bundle):
    after, before = exported[0].manifest.files, load_bundle(bundle).manifest.files
    assert {name: after[name] for name in before} == before


def test_graphs_are_what_tensorrt_8_2_reads(exported):
    bundle, _ = exported
    for part in BottleneckPart:
        model = onnx.load(bundle.onnx_path(part))
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]
        operators = {node.op_type for node in model.graph.node}
        # No Round, and no Cast between a constant and the Clip that it limits.
        assert operators <= {
            *("Add", "Clip", "Constant", "Conv", "Floor", "Mul", "Sigmoid", "Sub"),
        }


def test_a_tuned_transformer_replaces_the_bundles(recipe_of, teacher, bundle, tmp_path):
    recipe = recipe_of(tuned_share=0.5, no_object_shift=1.5)
    checkpoint = train_bottleneck(recipe, teacher, surroundings(tmp_path / "run"))
    run = load_run(checkpoint.parent)
    add_bottleneck(run, bundle, tmp_path / "out")
    tuned = DETR(load_bundle(bundle).manifest.architecture)
    tuned.load_state_dict(run.model)
    out = load_bundle(tmp_path / "out")
    # The class head's last bias is that of 'no object', and is shifted in what ships.
    bias = {
        each.name: onnx.numpy_helper.to_array(each)
        for each in onnx.load(out.onnx_path(Stage.TRANSFORMER)).graph.initializer
    }["class_embed.bias"]
    expected = tuned.class_embed.bias.detach().numpy().copy()
    expected[-1] += 1.5
    assert np.allclose(bias, expected)
    assert (
        out.manifest.files["transformer.onnx"]
        != load_bundle(bundle).manifest.files["transformer.onnx"]
    )


def test_what_does_not_fit_is_refused(recipe_of, bundle, exported, tmp_path):
    wide = Bottleneck(BottleneckSizes(32, 4, 8, 8))
    with pytest.raises(ConfigurationError, match="16 channels of features"):
        add_bottleneck(TrainedRun(recipe_of(), wide, None), bundle, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(ConfigurationError, match="exists"):
        add_bottleneck(TrainedRun(recipe_of(), wide, None), bundle, tmp_path / "out")


def test_another_kind_of_run_is_no_bottleneck(model_file):
    with pytest.raises(ConfigurationError, match="no run of"):
        load_run(model_file.parent)


def test_latents_that_are_always_zero_are_left_out_and_the_others_ordered(bottleneck):
    # Catches a channel that is dropped in one part and stays in the other, or another order there.
    with torch.no_grad():
        bottleneck.prior.log_scale.copy_(torch.tensor([0.0, -9.0, 2.0, 1.0]))
        for weights in (bottleneck.encoder.out.weight, bottleneck.encoder.skip.weight):
            weights[1] = 0
        bottleneck.encoder.out.bias[1] = 0
    features = torch.randn(2, 16, 3, 5, generator=torch.Generator().manual_seed(0))
    fewer = bottleneck.pruned(0.5)
    latents, kept = bottleneck.encoder(features), fewer.encoder(features)
    assert torch.allclose(kept, latents[:, [2, 3, 0]], atol=1e-5)
    assert torch.allclose(fewer.decoder(kept), bottleneck.decoder(latents), atol=1e-5)
