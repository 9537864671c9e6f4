"""Hugging Face folders: what is read of them, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from common.bundle import FixedInput, ShortestEdgeInput, load_bundle
from common.domain.errors import ConfigurationError
from detr.cli import import_model
from detr.errors import WeightsError
from detr.families.importing import import_family
from detr.families.published import PUBLISHED, published_config
from detr.families.registry import family_of
from detr.families.timm_resnet import own_resnet
from detr.importing.reading import read_config
from tests.tiny_families import CONFIGS, SIDE
from tests.unit.families.conftest import built


@pytest.fixture
def folder(tmp_path):
    """A fine-tuned D-FINE in shards, as transformers saves it."""
    path = tmp_path / "tuned"
    built("d_fine").save_pretrained(path, max_shard_size="60KB")
    assert len(list(path.glob("*.safetensors"))) > 1
    size = {"height": 128, "width": 128}
    (path / "preprocessor_config.json").write_text(json.dumps({"size": size}))
    return path


def read(path):
    config = read_config(path)
    return family_of(config).read(path, config)


def rewrite(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_a_tuned_model_becomes_a_bundle_with_its_names(folder, tmp_path, capsys):
    import_model(folder, out=tmp_path / "bundle", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["family"] == "d_fine"
    assert told["max_difference"] <= 1e-4
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert [(each.id, each.name) for each in manifest.categories] == [
        (0, "cat"),
        (1, "dog"),
        (2, "own thing"),
    ]
    assert manifest.input.model_dump() == {"policy": "stretch", "height": 128, "width": 128}
    assert manifest.trained


def test_weights_are_those_of_the_folder(folder):
    model, same = read(folder), built("d_fine")
    assert all(torch.equal(value, same.state_dict()[k]) for k, value in model.state_dict().items())


def test_what_is_missing_surplus_or_not_finite_is_named(tmp_path):
    path = tmp_path / "model"
    built("rf_detr").save_pretrained(path)
    weights = path / "model.safetensors"
    whole = weights.read_bytes()
    rewrite(weights, lambda tensors: tensors.pop("class_embed.bias"))
    with pytest.raises(WeightsError, match=r"class_embed\.bias is missing"):
        read(path)
    weights.write_bytes(whole)
    rewrite(weights, lambda tensors: tensors.update(extra=torch.zeros(1)))
    with pytest.raises(WeightsError, match="extra is surplus"):
        read(path)
    weights.write_bytes(whole)
    rewrite(weights, lambda tensors: tensors["class_embed.bias"].fill_(float("nan")))
    with pytest.raises(WeightsError, match=r"class_embed\.bias holds values that are not finite"):
        read(path)
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="cut off or damaged"):
        read(path)


@pytest.mark.parametrize("name", ["d_fine", "conditional_detr"])
def test_weights_of_another_shape_are_named(tmp_path, name):
    """Those of a class head above all, where names were lost or added by hand."""
    built(name).save_pretrained(tmp_path)
    config = read_config(tmp_path)
    config["id2label"] = {"0": "cat"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"class_\S+ \(3\).* another shape than config\.json"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("d_fine", {"id2label": ["cat", "dog", "own thing"]}, "id2label"),
        ("d_fine", {"feat_strides": [0, 32]}, "cannot be computed"),
        ("d_fine", {"num_queries": -1}, "cannot be computed"),
        ("conditional_detr", {"backbone_config": 5, "backbone": "resnet50"}, "backbone_config"),
        ("conditional_detr", {"backbone_config": None, "backbone_kwargs": 5}, "backbone_kwargs"),
        ("rf_detr", {"backbone_config": 5}, "backbone_config"),
        ("d_fine", {"num_labels": None}, "num_labels is None, not a whole number"),
        ("rt_detr_v2", {"num_labels": "3"}, "num_labels is '3', not a whole number"),
        ("rf_detr", {"num_labels": 0}, "num_labels is 0, not a whole number"),
        # Either would take all memory before it failed.
        ("d_fine", {"num_labels": 10**9}, "num_labels is 1000000000, not a whole number"),
        ("conditional_detr", {"num_queries": 10**9}, "has 60 GiB of weights"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_one_sentence(tmp_path, name, change, words):
    config = {**CONFIGS[name], **change}
    with pytest.raises(WeightsError, match=words):
        import_family(family_of(config), tmp_path, config, random=True)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_how_transformers_would_run_a_model_changes_nothing(name, tmp_path):
    """As models are saved that were trained in half precision."""
    running = {"dtype": "float16", "return_dict": False, "output_hidden_states": True}
    backbone = {**CONFIGS[name]["backbone_config"], **running}
    config = {**CONFIGS[name], **running, "backbone_config": backbone}
    said = {"size": {"height": SIDE, "width": SIDE}} if name != "conditional_detr" else {}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    cut = import_family(family_of(config), tmp_path, config, random=True).split
    same = import_family(family_of(CONFIGS[name]), tmp_path, CONFIGS[name], random=True).split
    weights = cut.whole.state_dict()
    for key, value in same.whole.state_dict().items():
        assert value.dtype == weights[key].dtype
        assert torch.equal(value, weights[key])


def test_a_model_that_does_not_run_is_one_sentence(folder, tmp_path):
    """What transformers builds and cannot compute: no level of this number comes in."""
    config = {**read_config(folder), "encode_proj_layers": [5]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="cannot be computed"):
        import_model(folder, out=tmp_path / "bundle", as_json=True)
    assert not (tmp_path / "bundle").exists()


def test_another_file_of_a_folder_is_not_taken_for_its_weights(folder, tmp_path):
    other = folder / "best.safetensors"
    other.write_bytes(b"")
    for path in (other, folder / "missing.safetensors"):
        with pytest.raises(WeightsError, match=r"is not model\.safetensors"):
            import_model(path, out=tmp_path / "bundle")


def test_no_pickle_is_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["d_fine"]))
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"no model\.safetensors"):
        read(tmp_path)


def test_weights_too_large_for_memory_are_refused_before_they_are_made(tmp_path):
    built("rf_detr").save_pretrained(tmp_path)
    config = {**read_config(tmp_path), "num_queries": 10**9}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="149 GiB of weights, more than the 8 GiB"):
        read(tmp_path)


@pytest.mark.parametrize("elsewhere", ["../elsewhere.safetensors", "/etc/passwd", ".."])
def test_shards_outside_of_the_folder_are_refused(folder, elsewhere):
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    first = next(iter(content["weight_map"]))
    content["weight_map"][first] = elsewhere
    index.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="outside its folder"):
        read(folder)


def test_a_tensor_that_a_shard_should_not_have_is_named(folder):
    """One that stands in two shards might be either; one that nobody names is left over."""
    one, other = sorted(folder.glob("model-*"))[:2]
    before, twice = other.read_bytes(), next(iter(load_file(one)))
    rewrite(other, lambda tensors: tensors.update({twice: load_file(one)[twice] + 1}))
    with pytest.raises(WeightsError, match=rf"{other.name} has {twice}, which .*index\.json"):
        read(folder)
    other.write_bytes(before)
    rewrite(other, lambda tensors: tensors.update(extra=torch.zeros(1)))
    with pytest.raises(WeightsError, match="has extra, which"):
        read(folder)


def test_a_resnet_of_timm_becomes_transformers_own(tmp_path):
    """Files on the hub have timm's keys; here those of a tiny model are written with them."""
    model = built("conditional_detr")
    model.save_pretrained(tmp_path)
    stem = "model.backbone.model.embedder.embedder.convolution.weight"

    def as_timm(tensors):
        found = next(key for key in tensors if key.endswith("embedder.embedder.convolution.weight"))
        tensors["model.backbone.conv_encoder.model.conv1.weight"] = tensors.pop(found)

    rewrite(tmp_path / "model.safetensors", as_timm)
    assert torch.equal(read(tmp_path).state_dict()[stem], model.state_dict()[stem])
    inner = own_resnet({"backbone": "resnet101", "use_timm_backbone": True})["backbone_config"]
    assert inner["depths"] == [3, 4, 23, 3]


def test_sampling_and_sizes_that_a_family_has_not_are_refused(tmp_path):
    for name, changes, word in [
        ("rf_detr", {"sampling": "discrete"}, "discrete"),
        ("rt_detr_v2", {"input_policy": ShortestEdgeInput()}, "HxW"),
    ]:
        with pytest.raises(ConfigurationError, match=word):
            import_family(family_of(CONFIGS[name]), tmp_path, CONFIGS[name], random=True, **changes)


@pytest.mark.parametrize(
    ("name", "height", "width", "word"),
    [
        ("rf_detr", 80, 80, "multiple of 32"),
        ("rf_detr", 96, 128, "no square"),
        ("d_fine", 128, 100, "multiple of 32"),
        ("d_fine", 32, 32, "too small"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(tmp_path, name, height, width, word):
    policy = FixedInput(height=height, width=width)
    config = CONFIGS[name]
    with pytest.raises(WeightsError, match=word):
        import_family(family_of(config), tmp_path, config, input_policy=policy, random=True)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_configurations_are_honoured(name, tmp_path):
    config = published_config(type(tmp_path)(name))
    family = family_of(config)
    checked = own_resnet(config) if family.name == "conditional_detr" else config
    assert family.fields.checked(checked)


def test_an_unknown_size_is_told_those_that_are_known(tmp_path):
    with pytest.raises(WeightsError, match="rf_detr_nano"):
        published_config(tmp_path / "yolo")


def test_the_name_of_a_size_is_no_folder_of_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"d_fine_n does not exist.*--random-weights only\.$"):
        import_model(Path("d_fine_n"), out=tmp_path / "bundle")
    (tmp_path / "d_fine_n").mkdir()
    with pytest.raises(WeightsError, match=r"neither model\.safetensors .* with their index\.?$"):
        import_model(Path("d_fine_n"), out=tmp_path / "bundle")


@pytest.mark.parametrize("name", ["rt_detr_v2", "rf_detr"])
def test_a_folder_without_configuration_is_told_what_it_was_read_as(name, tmp_path):
    path = tmp_path / "model"
    built(name).save_pretrained(path)
    (path / "config.json").unlink()
    for given in (path, path / "model.safetensors"):
        with pytest.raises(WeightsError, match=r"read as a DETR, since no config\.json names"):
            import_model(given, out=tmp_path / "bundle")


def test_a_damaged_detr_with_its_configuration_is_told_what_is_missing_only(tmp_path):
    path = tmp_path / "model"
    built("rt_detr_v2").save_pretrained(path)
    (path / "config.json").write_text(json.dumps({"model_type": "detr"}))
    with pytest.raises(WeightsError, match=r"\S+ is missing\.?$|in any known layout: [^.]"):
        import_model(path, out=tmp_path / "bundle")
