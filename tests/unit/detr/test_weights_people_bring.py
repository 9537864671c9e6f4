"""Wrapped, sharded, halved, pointed to, cut: taken as what they are, or refused with the cause."""

import argparse
import gzip
import json
import pathlib
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from common.bundle import Architecture, FixedInput, Normalization, load_bundle
from detr.cli import import_model
from detr.coco.categories import COCO_CATEGORIES
from detr.errors import WeightsError
from detr.importing import import_weights, start_backbone, start_from
from detr.model import DETR
from tests.weights_files import SMALL, save_hub_folder, save_shards, save_torch, small_state

ARGS = {
    "nheads": 4,
    "dilation": True,
    "backbone": "resnet18",
    "enc_layers": 1,
    "dec_layers": 1,
    "hidden_dim": 16,
    "dim_feedforward": 24,
    "num_queries": 5,
    "position_embedding": "sine",
    "pre_norm": False,
    "masks": False,
    "output_dir": pathlib.PosixPath("/x"),
}


def same(model, state):
    taken = model.state_dict()
    return all(torch.allclose(taken[key], state[key].float(), atol=1e-2) for key in taken)


def prefixed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


@pytest.fixture
def state():
    return small_state()


@pytest.fixture
def other():
    torch.manual_seed(9)
    return DETR(SMALL).state_dict()


WRAPPINGS = {
    "bare": lambda s, o: s,
    "model": lambda s, o: {"model": s, "optimizer": {"state": {}}, "epoch": 3},
    "with a number of numpy's": lambda s, o: {"model": s, "best_ap": np.float64(0.5)},
    "state_dict": lambda s, o: {"state_dict": OrderedDict(s), "epoch": 3},
    "distributed": lambda s, o: {"model": prefixed(s, "module.")},
    "compiled": lambda s, o: prefixed(s, "_orig_mod."),
    "lightning": lambda s, o: {
        "state_dict": {**prefixed(s, "model."), "criterion.empty_weight": torch.ones(4)},
        "hyper_parameters": {},
    },
    "both prefixes": lambda s, o: prefixed(s, "module.model."),
    "average": lambda s, o: {"model": o, "model_ema": s},
    "average in module": lambda s, o: {"ema": {"module": s, "updates": 5}, "model": o},
    "average by prefix": lambda s, o: {**prefixed(s, "ema_model."), **prefixed(o, "model.")},
    "half": lambda s, o: {key: value.half() for key, value in s.items()},
    "bfloat16": lambda s, o: {key: value.bfloat16() for key, value in s.items()},
    "double": lambda s, o: {key: value.double() for key, value in s.items()},
    "parameters": lambda s, o: {key: nn.Parameter(value) for key, value in s.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrapped_weights_are_found(wrapping, state, other, tmp_path):
    path = save_torch(WRAPPINGS[wrapping](state, other), tmp_path)
    imported = import_weights(path, heads=4, dilation=False)
    assert same(imported.model, state)
    chosen = any("averaged weights" in remark for remark in imported.remarks)
    assert chosen == (wrapping in ("average", "average in module", "average by prefix"))


def test_the_suffix_says_nothing(state, tmp_path):
    path = save_torch(state, tmp_path, "model.safetensors")
    assert same(import_weights(path).model, state)
    save_hub_folder(state, tmp_path, {})
    (tmp_path / "model.safetensors").rename(tmp_path / "weights.pth")
    assert same(import_weights(tmp_path / "weights.pth").model, state)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_shards_are_put_together(suffix, state, tmp_path):
    index = save_shards(state, tmp_path, suffix=suffix)
    for path in (tmp_path, index):
        assert same(import_weights(path, heads=4).model, state)
    shard = tmp_path / f"model-00001-of-00002{suffix}"
    with pytest.raises(WeightsError, match="one of 2 shards: give their folder"):
        import_weights(shard)
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=f"00001-of-00002{suffix} is cut off or damaged"):
        import_weights(tmp_path)


def test_a_shard_without_what_the_index_says_is_named(state, tmp_path):
    index = save_shards(state, tmp_path)
    content = json.loads(index.read_text())
    content["weight_map"]["more.weight"] = "model-00002-of-00002.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=r"00002-of-00002\.safetensors lacks more\.weight"):
        import_weights(tmp_path)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2\nsize 166\n"


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.bin"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (LFS, "Git LFS pointer.*git lfs pull"),
        (b"../.git/annex/objects/x/y/SHA256E", "git-annex pointer"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "web page.*download"),
        (b"<HTML>404", "web page"),
        (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "web page"),
        (gzip.compress(b"weights", mtime=0), "compressed by gzip"),
        (b"GIF89a" * 40, "holds no weights"),
    ],
)
def test_what_is_no_weights_file_is_told(name, content, sentence, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=sentence):
        import_weights(path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_cut_files_are_told(kind, share, state, tmp_path):
    if kind == "safetensors":
        path = save_hub_folder(state, tmp_path, {}) / "model.safetensors"
    else:
        path = tmp_path / "weights.pth"
        torch.save({"model": state}, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(WeightsError, match="cut off or damaged|is refused"):
        import_weights(path)


class Settings:
    """A class of the training code's own."""


def test_objects_of_other_codes_are_refused_by_name(state, tmp_path):
    path = save_torch({"model": state, "config": Settings()}, tmp_path)
    with pytest.raises(WeightsError, match=r"refused.*Settings, which loading would run"):
        import_weights(path)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (torch.zeros(16, 1, 1, 1, dtype=torch.int8), "has shape|is of torch.int8"),
        (torch.full((16, 32, 1, 1), torch.nan), "not finite"),
        (torch.zeros(16, 32, 1, 1, device="meta"), "has a shape but no values"),
        (torch.zeros(16, 32, 1, 1, dtype=torch.int64), "is of torch.int64"),
        (torch.zeros(16, 32, 1, 1, dtype=torch.complex64), "is of torch.complex64"),
    ],
)
def test_tensors_that_are_no_weights_are_named(value, sentence, state, tmp_path):
    state["input_proj.weight"] = value
    with pytest.raises(WeightsError, match=f"input_proj.weight.*({sentence})"):
        import_weights(save_torch(state, tmp_path))


@pytest.mark.parametrize("form", [argparse.Namespace, dict])
def test_args_of_the_checkpoint_are_taken(form, state, tmp_path):
    """With 8 heads, or without dilation, the same weights compute something else."""
    path = save_torch({"model": state, "args": form(**ARGS)}, tmp_path)
    imported = import_weights(path)
    architecture = imported.model.architecture
    assert (architecture.heads, architecture.dilation) == (4, True)
    assert imported.remarks == ()
    assert import_weights(path, heads=4, dilation=True).model.architecture == architecture


@pytest.mark.parametrize("flag", [{"heads": 8}, {"dilation": False}])
def test_a_flag_that_contradicts_args_is_refused(flag, state, tmp_path):
    path = save_torch({"model": state, "args": argparse.Namespace(**ARGS)}, tmp_path)
    with pytest.raises(WeightsError, match="args in the checkpoint say .*, but .* is asked for"):
        import_weights(path, **flag)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("pre_norm", True, "pre_norm is True"),
        ("masks", True, "masks is True"),
        ("position_embedding", "learned", "position_embedding is 'learned'"),
        ("position_embedding", "v3", "position_embedding is 'v3'"),
        ("nheads", "4", "nheads is '4', not a whole number"),
        ("dilation", 1, "dilation is 1, not true or false"),
        ("enc_layers", 6, "says that enc_layers is 6, but the weights are of a model with 1"),
        ("backbone", "resnet50", "backbone is resnet50, but .* resnet18"),
        ("hidden_dim", 256, "hidden_dim is 256"),
        ("num_queries", 100, "num_queries is 100"),
    ],
)
def test_args_of_another_model_are_refused(name, value, sentence, state, tmp_path):
    path = save_torch(
        {"model": state, "args": argparse.Namespace(**{**ARGS, name: value})}, tmp_path
    )
    with pytest.raises(WeightsError, match=sentence):
        import_weights(path)


def test_without_args_it_says_what_it_assumes(state, tmp_path):
    path = save_torch({"model": state}, tmp_path)
    heads, dilation = import_weights(path).remarks
    assert "how many attention heads: 8 are assumed" in heads
    assert "last stage is dilated: it is assumed not" in dilation
    assert import_weights(path, heads=4, dilation=False).remarks == ()


CONFIG = {
    "model_type": "detr",
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "num_queries": 5,
    "activation_function": "relu",
    "position_embedding_type": "sine",
    "backbone": "resnet18",
    "use_timm_backbone": True,
    # Of training only, whatever they are.
    "auxiliary_loss": True,
    "dropout": 0.3,
    "encoder_layerdrop": 0.5,
    "init_xavier_std": 3.0,
    "class_cost": 9,
    "torch_dtype": "float16",
    "transformers_version": "4.30.0",
}
OWN_RESNET = {"model_type": "resnet", "embedding_size": 4, "layer_type": "basic"}


def config_without(*names, **changes):
    return {key: value for key, value in {**CONFIG, **changes}.items() if key not in names}


@pytest.mark.parametrize(
    ("config", "heads", "dilated"),
    [
        (CONFIG, 4, False),
        ({**CONFIG, "dilation": None}, 4, False),
        ({**CONFIG, "dilation": True}, 4, True),
        ({**CONFIG, "dilation": True, "backbone_kwargs": {"output_stride": 16}}, 4, True),
        ({**CONFIG, "backbone": "resnet18.a1_in1k", "scale_embedding": False}, 4, False),
        ({**CONFIG, "backbone_kwargs": {"out_indices": [1, 2, 3, 4], "in_chans": 3}}, 4, False),
        (config_without("decoder_attention_heads"), 4, False),
        (config_without("encoder_attention_heads"), 4, False),
        ({"num_attention_heads": 2}, 2, False),
        ({}, 8, False),
        ({"dilation": None}, 8, False),
        (
            config_without("backbone", use_timm_backbone=False, backbone_config=OWN_RESNET),
            4,
            False,
        ),
        (
            config_without(
                "backbone",
                "use_timm_backbone",
                dilation=True,
                backbone_config={
                    "model_type": "timm_backbone",
                    "backbone": "resnet18",
                    "out_indices": [1, 2, 3, 4],
                    "output_stride": 16,
                },
            ),
            4,
            True,
        ),
    ],
)
def test_config_json_is_honoured(config, heads, dilated, state, tmp_path):
    architecture = import_weights(save_hub_folder(state, tmp_path, config)).model.architecture
    assert (architecture.heads, architecture.dilation) == (heads, dilated)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_type", "conditional_detr"),
        ("model_type", "table-transformer"),
        ("activation_function", "gelu"),
        ("position_embedding_type", "learned"),
        ("num_channels", 1),
        ("num_channels", 3.0),
        ("scale_embedding", True),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"bits": 4}),
        ("d_model", 256),
        ("hidden_size", "16"),
        ("encoder_layers", 6),
        ("decoder_layers", True),
        ("num_queries", 100),
        ("num_labels", 91),
        ("encoder_ffn_dim", 48),
        ("decoder_attention_heads", 8),
        ("encoder_attention_heads", 0),
        ("encoder_attention_heads", 4.0),
        ("dilation", "false"),
        ("use_timm_backbone", "yes"),
        ("backbone", "resnet50"),
        ("backbone", "resnetblur50"),
        ("backbone", "swin_tiny"),
        ("backbone", 18),
        ("backbone_kwargs", [1]),
        ("backbone_kwargs", {"output_stride": 8}),
        ("backbone_kwargs", {"out_indices": [1, 2, 3]}),
        ("backbone_kwargs", {"in_chans": 4}),
        ("backbone_kwargs", {"act_layer": "gelu"}),
        ("backbone_config", 3),
        ("backbone_config", {"model_type": "swin"}),
        ("backbone_config", {**OWN_RESNET, "embedding_size": 64}),
        ("backbone_config", {**OWN_RESNET, "hidden_act": "gelu"}),
        ("backbone_config", {**OWN_RESNET, "downsample_in_first_stage": True}),
        ("backbone_config", {**OWN_RESNET, "downsample_in_bottleneck": True}),
        ("backbone_config", {**OWN_RESNET, "out_features": ["stage3"]}),
        ("backbone_config", {**OWN_RESNET, "num_channels": 1}),
        ("backbone_config", {"model_type": "timm_backbone", "backbone": "resnet34"}),
        ("id2label", ["a", "b"]),
        ("id2label", {"a": "bolt"}),
        ("id2label", {"0": 7}),
        ("id2label", {"3": "bolt"}),
        ("id2label", {"-1": "bolt"}),
    ],
)
def test_fields_that_mean_another_model_are_refused_by_name(name, value, state, tmp_path):
    if name == "hidden_size":
        config = config_without("d_model", hidden_size=value)
    else:
        config = {**CONFIG, name: value}
    inner = next(iter(value)) if isinstance(value, dict) and name == "backbone_kwargs" else name
    with pytest.raises(WeightsError, match=f"{inner}|ffn_dim|out_indices|backbone"):
        import_weights(save_hub_folder(state, tmp_path, config))


def test_dilation_of_a_backbone_that_cannot_have_it_is_refused(state, tmp_path):
    """transformers computes without it, timm with it."""
    config = {**CONFIG, "use_timm_backbone": False, "dilation": True}
    with pytest.raises(WeightsError, match="dilation is true, which transformers does not do"):
        import_weights(save_hub_folder(state, tmp_path, config))
    config = {**CONFIG, "dilation": False, "backbone_kwargs": {"output_stride": 16}}
    with pytest.raises(WeightsError, match="dilation is False, but output_stride is 16"):
        import_weights(save_hub_folder(state, tmp_path, config))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({str(row): f"part {row}" for row in range(91)}, [f"part {row}" for row in range(91)]),
        ({str(row): f"LABEL_{row}" for row in range(91)}, [c.name for c in COCO_CATEGORIES]),
        (None, [c.name for c in COCO_CATEGORIES]),
        (
            {
                str(row): {c.id: c.name for c in COCO_CATEGORIES}.get(row, "N/A")
                for row in range(91)
            },
            [c.name for c in COCO_CATEGORIES],
        ),
    ],
)
def test_with_91_classes_id2label_comes_first(labels, expected, tmp_path):
    folder = save_hub_folder(small_state(classes=91), tmp_path, {**CONFIG, "id2label": labels})
    categories = import_weights(folder).categories
    assert [category.name for category in categories] == expected
    assert all(category.id == category.class_index for category in categories)


# As transformers 4.20, 4.35 and 5.23 write them, and as trainers leave them.
OF_RELEASES = {
    "max_position_embeddings": 1024,
    "num_hidden_layers": 1,
    "use_pretrained_backbone": True,
    "_name_or_path": "somebody/detr",
    "architectures": ["DetrForObjectDetection"],
    "_num_labels": 91,
    "max_length": 20,
    "top_p": 1.0,
    "gradient_checkpointing": True,
    "tie_word_embeddings": True,
    "dtype": "float32",
    "finetuning_task": None,
    "some_switch": False,
}


def test_what_releases_write_of_themselves_is_no_remark(state, tmp_path):
    config = {**CONFIG, **OF_RELEASES, "dilation": False}
    assert import_weights(save_hub_folder(state, tmp_path, config)).remarks == ()


def test_fields_that_mean_nothing_to_a_detr_are_named(state, tmp_path):
    config = config_without(
        "backbone",
        use_timm_backbone=False,
        dilation=False,
        backbone_config={**OWN_RESNET, "se_ratio": 4},
        two_stage=True,
        pre_norm_decoder=[1],
    )
    (remark,) = import_weights(save_hub_folder(state, tmp_path, config)).remarks
    assert "'pre_norm_decoder', 'two_stage', 'backbone_config.se_ratio', which no DETR" in remark


def test_code_beside_the_weights_is_refused(state, tmp_path):
    folder = save_hub_folder(state, tmp_path, {**CONFIG, "auto_map": {"AutoModel": "own.Model"}})
    with pytest.raises(WeightsError, match="auto_map names code of the model's own"):
        import_weights(folder)


def test_a_model_that_would_detect_nothing_is_refused(state, tmp_path):
    labels = {str(row): "N/A" for row in range(3)}
    folder = save_hub_folder(state, tmp_path, {**CONFIG, "id2label": labels})
    with pytest.raises(WeightsError, match="calls every class 'N/A'"):
        import_weights(folder)


def test_flags_go_before_config_json_and_that_is_said(state, tmp_path):
    imported = import_weights(save_hub_folder(state, tmp_path, CONFIG), heads=2)
    assert imported.model.architecture.heads == 2
    assert imported.remarks == ("config.json says heads 4; 2 is taken, as asked for.",)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ({"shortest_edge": 480, "longest_edge": 640}, (480, 640)),
        (480, None),
        ({"height": 480, "width": 640}, None),
        (None, None),
    ],
)
def test_what_pictures_were_made_into_is_taken(size, expected, state, tmp_path):
    folder = save_hub_folder(state, tmp_path, CONFIG)
    stated = {"image_mean": [0.5, 0.4, 0.3], "image_std": [1, 0.5, 0.2], "size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    taken = import_weights(folder).preprocessing
    assert taken.normalization == Normalization(mean=(0.5, 0.4, 0.3), std=(1, 0.5, 0.2))
    edges = taken.input and (taken.input.shortest_edge, taken.input.longest_edge)
    assert edges == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("do_normalize", False),
        ("do_normalize", None),
        ("do_rescale", False),
        ("do_rescale", None),
        ("image_processor_type", "RTDetrImageProcessor"),
        ("rescale_factor", 1),
        ("image_mean", [0.5]),
        ("image_mean", "x"),
        ("image_std", [1, 0, 1]),
        ("format", "coco_panoptic"),
    ],
)
def test_pictures_made_otherwise_are_refused_by_name(name, value, state, tmp_path):
    folder = save_hub_folder(state, tmp_path, CONFIG)
    (folder / "preprocessor_config.json").write_text(json.dumps({name: value}))
    with pytest.raises(WeightsError, match=rf"preprocessor_config\.json: {name} is"):
        import_weights(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", {"height": 480, "width": 640}),
        ("size", {"max_height": 480, "max_width": 480}),
        ("resample", 3),
        ("pad_size", {"height": 480, "width": 480}),
        ("do_resize", False),
        ("do_resize", None),
    ],
)
def test_a_bundle_is_not_made_for_another_resize_unless_one_is_asked_for(
    name, value, state, tmp_path
):
    folder = save_hub_folder(state, tmp_path, CONFIG)
    (folder / "preprocessor_config.json").write_text(json.dumps({name: value}))
    with pytest.raises(WeightsError, match=rf"preprocessor_config\.json: {name} is"):
        import_model(folder, out=tmp_path / "bundle")
    import_model(folder, out=tmp_path / "bundle", input_size="96x96", as_json=True)
    assert load_bundle(tmp_path / "bundle").manifest.input == FixedInput(height=96, width=96)


def trainable(**changes):
    return DETR(SMALL.model_copy(update=changes), norm=nn.BatchNorm2d)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_training_starts_from_what_an_import_takes(wrapping, state, other, tmp_path):
    model = trainable()
    start_from(model, save_torch(WRAPPINGS[wrapping](state, other), tmp_path))
    taken = {key: value for key, value in model.state_dict().items() if key in state}
    assert all(torch.allclose(taken[key], state[key], atol=1e-2) for key in state)


def test_a_head_for_other_classes_is_made_anew_and_said(state, tmp_path):
    model = trainable(classes=7)
    before = model.class_embed.weight.clone()
    path = save_torch({"model": state, "args": argparse.Namespace(nheads=4)}, tmp_path)
    (remark,) = start_from(model, path)
    assert "has 3 classes and the recipe 7: the class head is made anew" in remark
    assert torch.equal(model.class_embed.weight, before)
    assert torch.equal(model.input_proj.weight, state["input_proj.weight"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"encoder_layers": 2}, "encoder_layers 1 instead of 2"),
        ({"hidden_dim": 32}, "hidden_dim 16 instead of 32"),
        ({"queries": 9}, "queries 5 instead of 9"),
        ({"backbone": "resnet34"}, "backbone resnet18 instead of resnet34"),
        ({"heads": 8}, "heads 4 instead of 8"),
        ({"dilation": False}, "dilation True instead of False"),
    ],
)
def test_another_architecture_is_refused_naming_what_differs(changes, sentence, state, tmp_path):
    path = save_torch({"model": state, "args": argparse.Namespace(**ARGS)}, tmp_path)
    with pytest.raises(WeightsError, match=sentence):
        start_from(DETR(Architecture(**{**SMALL.model_dump(), "dilation": True, **changes})), path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.pth does not exist"):
        start_from(trainable(), tmp_path / "gone.pth")


def test_a_backbone_of_torchvision_is_taken_or_named(state, tmp_path):
    body = {
        key.removeprefix("backbone.0.body."): value
        for key, value in state.items()
        if key.startswith("backbone.0.body.")
    }
    wrapped = {"state_dict": prefixed({**body, "fc.weight": torch.zeros(9, 32)}, "module.")}
    model = DETR(SMALL)
    start_backbone(model.backbone.body, save_torch(wrapped, tmp_path))
    assert torch.equal(model.backbone.body.conv1.weight, body["conv1.weight"])
    del body["layer1.0.conv1.weight"]
    with pytest.raises(WeightsError, match=r"layer1\.0\.conv1\.weight differ"):
        start_backbone(model.backbone.body, save_torch(body, tmp_path))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda value: value * torch.nan, "not finite"),
        (lambda value: value.to("meta"), "has a shape but no values"),
        (lambda value: value.to(torch.int8), "is of torch.int8"),
    ],
)
def test_a_backbone_file_that_holds_no_weights_is_refused(change, sentence, tmp_path):
    body = DETR(SMALL).backbone.body
    content = {**body.state_dict(), "conv1.weight": change(body.state_dict()["conv1.weight"])}
    with pytest.raises(WeightsError, match=f"conv1.weight.*{sentence}"):
        start_backbone(body, save_torch(content, tmp_path))
