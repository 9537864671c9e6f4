"""D-FINE by transformers' modules and losses, in the training loop."""

import json
import subprocess
import sys

import pytest
import torch
import yaml
from transformers import DFineConfig, DFineForObjectDetection
from transformers.loss.loss_d_fine import DFineForObjectDetectionLoss

from common.domain.errors import ConfigurationError
from detr.errors import WeightsError
from detr.families.d_fine import DFine
from detr.training.checkpoints import CHECKPOINT_NAME
from detr.training.d_fine_losses import labels_of, loss_row, set_losses
from detr.training.d_fine_model import build_network, completed
from detr.training.families import Labelling, trained_family
from detr.training.loop import training_step
from detr.training.recipe import load_recipe
from detr.training.release import rounded
from detr.training.scene_data import SceneDataset, categories
from detr.training.state import new_state, restore_state, save_state
from scenes.splits import SceneSource
from tests.tiny_d_fine import CONFIGURATION, RECIPE, d_fine_batch, tiny_d_fine
from tests.unit.scenes.conftest import drawn_artwork, drawn_photographs


def trained(recipe, steps, state=None):
    """A state after some steps, and the losses of each."""
    task = trained_family(recipe).task()
    state = state or new_state(recipe, task.build)
    losses = [
        training_step(recipe, state, state.model, d_fine_batch(state.step % 2), task)
        for _ in range(steps)
    ]
    return state, torch.stack(losses)


def test_its_losses_fall():
    recipe = tiny_d_fine(optimiser={"learning_rate": 3e-3}, steps=80)
    _, losses = trained(recipe, 80)
    assert losses.isfinite().all()
    assert losses[-8:, 0].mean() < 0.85 * losses[:8, 0].mean()


def test_a_resumed_run_gives_the_same_weights(tmp_path):
    recipe = tiny_d_fine()
    state, _ = trained(recipe, 3)
    save_state(state, recipe, tmp_path)
    whole, _ = trained(recipe, 3, state)
    task = trained_family(recipe).task()
    restored = restore_state(tmp_path / CHECKPOINT_NAME, recipe, task.build)
    resumed, _ = trained(recipe, 3, restored)
    assert resumed.step == whole.step == 6
    for name, value in whole.average.state.items():
        assert torch.equal(resumed.average.state[name], value), name
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def network_output(recipe, batch):
    torch.manual_seed(1)
    network = build_network(recipe, print).train()
    return network, network(batch.images, labels_of(batch))


def test_every_layer_is_judged_by_its_own_boxes_and_corners():
    batch = d_fine_batch(3)
    network, output = network_output(tiny_d_fine(), batch)
    before = set_losses(network.criterion, output, labels_of(batch))
    kinds = ("vfl", "bbox", "giou")
    wanted = {f"loss_{kind}{end}" for kind in kinds for end in ("", "_aux_0", "_aux_1", "_aux_2")}
    wanted |= {f"loss_{kind}_dn_{layer}" for kind in kinds for layer in range(3)}
    # The rough boxes and the encoder's proposals have no corners.
    wanted |= {f"loss_{kind}{end}" for kind in ("fgl", "ddf") for end in ("", "_aux_1")}
    wanted |= {f"loss_{kind}_dn_{layer}" for kind in ("fgl", "ddf") for layer in (1, 2)}
    assert set(before) == wanted
    # The decoder's first layer: its boxes are behind the rough ones.
    with torch.no_grad():
        corners = output.intermediate_predicted_corners[:, 0]
        corners += torch.linspace(0, 1, corners.shape[-1])
    after = set_losses(network.criterion, output, labels_of(batch))
    changed = {name for name in wanted if not torch.equal(before[name], after[name])}
    # A matched box that overlaps nothing counts for nothing: those of denoising overlap.
    changed.discard("loss_fgl_aux_1")
    assert changed == {"loss_ddf_aux_1", "loss_fgl_dn_1", "loss_ddf_dn_1"}


def test_what_transformers_pairs_rightly_is_equal():
    batch = d_fine_batch(4)
    network, output = network_output(tiny_d_fine(), batch)
    ours = set_losses(network.criterion, output, labels_of(batch))
    _, theirs, _ = DFineForObjectDetectionLoss(
        output.intermediate_logits[:, -1],
        labels_of(batch),
        batch.images.device,
        output.intermediate_reference_points[:, -1],
        network.d_fine.config,
        output.intermediate_logits,
        output.intermediate_reference_points,
        enc_topk_logits=output.enc_topk_logits,
        enc_topk_bboxes=output.enc_topk_bboxes,
        denoising_meta_values=output.denoising_meta_values,
        predicted_corners=output.intermediate_predicted_corners,
        initial_reference_points=output.initial_reference_points,
    )
    # The last layer; the rough boxes; the proposals, the last of either's list.
    same = {"": "", "_aux_0": "_aux_0", "_aux_2": "_aux_1", "_dn_0": "_dn_0", "_dn_1": "_dn_1"}
    for kind in ("vfl", "bbox", "giou"):
        for own, other in same.items():
            torch.testing.assert_close(ours[f"loss_{kind}{own}"], theirs[f"loss_{kind}{other}"])


def test_pictures_without_objects_teach_too():
    batch = d_fine_batch(5, counts=(0, 0))
    network, output = network_output(tiny_d_fine(), batch)
    row = loss_row(set_losses(network.criterion, output, labels_of(batch)))
    assert row.isfinite().all()
    row[0].backward()
    assert network.d_fine.model.enc_score_head.bias.grad.abs().sum() > 0


def test_the_released_weights_give_the_trained_model(tmp_path):
    recipe = tiny_d_fine(score_shift=1.5)
    state, _ = trained(recipe, 2)
    family = trained_family(recipe)
    model = family.plain_model(recipe, state.average.state)
    read = family.with_weights(recipe, family.weights(model))
    pixels = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        shipped, again = model(pixels), read(pixels)
        raw = family.plain_model(tiny_d_fine(), state.average.state)(pixels)
    assert torch.equal(shipped.logits, again.logits)
    assert torch.equal(shipped.pred_boxes, again.pred_boxes)
    torch.testing.assert_close(shipped.logits, raw.logits + 1.5)
    # What training alone needs is not released, and nothing is there twice.
    names = rounded(family.weights(model))
    assert not [name for name in names if "denoising" in name or name.startswith("class_embed")]


def test_its_bundle_says_what_it_takes_and_gives(tmp_path):
    recipe = tiny_d_fine()
    state, _ = trained(recipe, 1)
    family = trained_family(recipe)
    labelling = Labelling(categories(), "Apache-2.0", "a test")
    model = family.plain_model(recipe, state.average.state)
    manifest = family.export(
        recipe, model, tmp_path / "out", labelling, overwrite=False
    ).bundle.manifest
    assert (manifest.family, manifest.input) == ("d_fine", recipe.input)
    assert [(t.name, t.channels) for t in manifest.cut] == [
        ("features_16", 16),
        ("features_32", 16),
    ]
    assert manifest.normalization == recipe.normalization
    # It tells how to build the model anew, channels of its own included.
    again = DFine().build({**manifest.configuration, "num_labels": recipe.classes})
    assert shapes_of(again) == shapes_of(model)


def shapes_of(model):
    """Of all weights; a frozen norm counts no batches."""
    return {
        name: value.shape
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def saved_folder(tmp_path, **changes):
    """A Hugging Face folder with a D-FINE of three classes, and its model."""
    torch.manual_seed(7)
    content = {**CONFIGURATION, "num_labels": 3, "freeze_backbone_batch_norms": False, **changes}
    model = DFineForObjectDetection(DFineConfig(**content))
    model.save_pretrained(tmp_path / "weights")
    return tmp_path / "weights", model


def test_it_starts_from_a_folder_with_other_classes(tmp_path):
    folder, model = saved_folder(tmp_path)
    start = {"kind": "weights", "file": str(folder)}
    recipe = completed(tiny_d_fine(configuration={"num_labels": 10}, start=start))
    assert (recipe.classes, recipe.configuration["num_queries"]) == (10, 6)
    said = []
    network = build_network(recipe, said.append)
    (sentence,) = said
    assert "the class heads are made anew" in sentence
    own, theirs = network.d_fine.state_dict(), model.state_dict()
    differing = {name for name in own if own[name].shape != theirs[name].shape}
    assert all("class_embed" in name or "enc_score_head" in name for name in differing)
    for name in own.keys() - differing:
        assert torch.equal(own[name], theirs[name]), name
    # What D-FINE holds fixed stays so, as in a run from scratch.
    fixed = {name for name, value in network.named_parameters() if not value.requires_grad}
    assert fixed >= {"d_fine.model.decoder.up", "d_fine.model.decoder.reg_scale"}
    # With its own classes nothing is said, and nothing made anew.
    same = build_network(completed(tiny_d_fine(configuration=None, start=start)), pytest.fail)
    assert torch.equal(same.d_fine.model.enc_score_head.weight, model.model.enc_score_head.weight)


def test_a_folder_of_another_shape_is_refused_by_name(tmp_path):
    folder, _ = saved_folder(tmp_path, decoder_ffn_dim=24)
    start = {"kind": "weights", "file": str(folder)}
    recipe = completed(tiny_d_fine(start=start))
    with pytest.raises(WeightsError, match=r"does not fit .*decoder\.layers\.0\.mlp"):
        build_network(recipe, print)


def test_a_folder_of_another_model_is_refused(tmp_path):
    folder, _ = saved_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "detr"}))
    recipe = tiny_d_fine(start={"kind": "weights", "file": str(folder)})
    with pytest.raises(WeightsError, match=r"no config.json of a D-FINE"):
        completed(recipe)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"configuration": None}, "needs a configuration"),
        ({"input": {"policy": "fixed", "height": 64, "width": 96}}, "stretch only"),
        ({"input": {"policy": "stretch", "height": 72, "width": 96}}, "72 x 96 are no multiples"),
        ({"dropout": 0.1}, "dropout is a field of the configuration"),
        ({"no_object_shift": 1.0}, "no 'no object'"),
        ({"parts": {"query_groups": 2}}, "parts are not for d_fine"),
        ({"family": "yolo"}, "family: Input should be 'detr' or 'd_fine'"),
    ],
)
def test_what_the_family_does_not_take_is_refused(tmp_path, change, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **change}))
    with pytest.raises(ConfigurationError, match=message):
        load_recipe(str(path))


def test_a_field_that_nobody_knows_is_refused():
    recipe = tiny_d_fine(configuration={**CONFIGURATION, "decoder_layrs": 3})
    with pytest.raises(WeightsError, match="decoder_layrs"):
        completed(recipe)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_labels": None}, "recipe tiny-dfine, configuration: num_labels is None"),
        ({"num_labels": 10**9}, "num_labels is 1000000000, not a whole number from 1"),
        ({"decoder_attention_heads": 3}, "divisible by decoder_attention_heads 3"),
        ({"encoder_ffn_dim": 10**9}, "GiB of weights, more than the 8 GiB"),
    ],
)
def test_a_configuration_that_makes_no_model_is_one_sentence(changes, words):
    with pytest.raises(WeightsError, match=words):
        completed(tiny_d_fine(configuration={**CONFIGURATION, **changes}))


@pytest.mark.parametrize("changes", [{"encode_proj_layers": [5]}, {"num_queries": 99}])
def test_parts_that_do_not_fit_together_are_one_sentence(changes):
    recipe = completed(tiny_d_fine(configuration={**CONFIGURATION, **changes}))
    with pytest.raises(WeightsError, match="tiny-dfine, configuration: .* cannot be computed"):
        new_state(recipe, trained_family(recipe).task().build)


@pytest.mark.parametrize("strides", [5, [], [0, 32], ["a"], None])
def test_strides_that_are_no_numbers_are_refused(tmp_path, strides):
    path = tmp_path / "wrong.yaml"
    wrong = {**RECIPE, "configuration": {**CONFIGURATION, "feat_strides": strides}}
    path.write_text(yaml.safe_dump(wrong))
    with pytest.raises(ConfigurationError, match="feat_strides are no whole numbers above 0"):
        load_recipe(str(path))


def test_early_scenes_are_smaller_and_keep_to_the_strides():
    source = SceneSource("train", 1, drawn_artwork(), drawn_photographs())
    recipe = load_recipe("demo-dfine")
    dataset = SceneDataset(
        source, recipe.input, recipe.normalization, early_samples=1, early_scale=2 / 3
    )
    assert [tuple(dataset[index].image.shape) for index in (0, 1)] == [(3, 96, 128), (3, 160, 192)]


def test_whoever_trains_a_detr_needs_no_transformers():
    code = (
        "import sys, detr.training.cli, detr.distillation.cli; print('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
