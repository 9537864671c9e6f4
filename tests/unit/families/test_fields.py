"""A field of a configuration is honoured, does not matter, or is refused by its name."""

import json
from pathlib import Path

import pytest
from transformers import CONFIG_MAPPING

from common.bundle import ShortestEdgeInput, StretchInput
from detr.errors import WeightsError
from detr.families.categories import categories_of
from detr.families.preparation import NOT_NORMALISED
from detr.families.registry import FAMILIES, family_of
from detr.families.timm_resnet import own_resnet
from detr.importing.known_fields import COMMON
from detr.importing.processors import read_processor
from tests.tiny_families import CONFIGS

# Of the base class; what they can change is text, labels or how transformers runs.
BASE = {"bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"}
TIMM = {"backbone_config": None, "use_timm_backbone": True, "backbone": "resnet18"}
OF_TIMM = {"model_type": "timm_backbone", "backbone": "resnet18"}
CHANGES = [
    ("d_fine", {"eval_size": [640, 640]}, "eval_size"),
    ("d_fine", {"anchor_image_size": [640, 640]}, "anchor_image_size"),
    ("d_fine", {"learn_initial_query": True}, "learn_initial_query"),
    ("d_fine", {"new_attention": "yes"}, "new_attention"),
    ("d_fine", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ("d_fine", {"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
    ("rt_detr_v2", {"with_box_refine": False}, "with_box_refine"),
    ("rt_detr_v2", {"decoder_method": "nearest"}, "decoder_method"),
    ("rt_detr_v2", {"use_pretrained_backbone": True}, "use_pretrained_backbone"),
    ("rt_detr_v2", {"backbone_config": {"model_type": "swin"}}, "model_type"),
    ("rf_detr", {"num_feature_levels": 2}, "num_feature_levels"),
    ("conditional_detr", {"position_embedding_type": "learned"}, "position_embedding_type"),
    ("conditional_detr", {"dilation": True}, "dilation"),
    ("conditional_detr", {"backbone_config": None, "backbone": "swin_tiny"}, "swin_tiny"),
    ("conditional_detr", {**TIMM, "backbone_kwargs": {"act_layer": "silu"}}, "act_layer"),
    ("conditional_detr", {**TIMM, "backbone_kwargs": {"in_chans": 4}}, "in_chans"),
    ("conditional_detr", {**TIMM, "backbone_kwargs": {"output_stride": 16}}, "output_stride"),
    ("conditional_detr", {"backbone_config": {**OF_TIMM, "aa_layer": "blurpool"}}, "aa_layer"),
    ("conditional_detr", {"backbone_config": {**OF_TIMM, "num_channels": 4}}, "num_channels"),
    ("conditional_detr", {"backbone_config": {**OF_TIMM, "out_features": ["layer3"]}}, "layer3"),
]


@pytest.mark.parametrize(("name", "change", "word"), CHANGES, ids=lambda value: str(value)[:40])
def test_what_is_not_honoured_is_refused_by_name(name, change, word):
    config = {**CONFIGS[name], **change}
    with pytest.raises(WeightsError, match=word):
        family_of(config).build(config)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_every_field_of_transformers_is_on_a_list(name):
    """A field that a later release adds makes this fail, and an import that has it refuses it."""
    fields = family_of(CONFIGS[name]).fields
    config = CONFIG_MAPPING[name].from_dict(CONFIGS[name])
    known = {name for name in config.to_dict() if not name.startswith("_")}
    assert known - fields.known - BASE == set()
    inner = config.backbone_config
    listed = fields.inner["backbone_config"][inner.model_type].known
    assert {name for name in inner.to_dict() if not name.startswith("_")} - listed - BASE == set()


@pytest.mark.parametrize("written", [{}, {"use_timm_backbone": True, "backbone": "resnet18"}])
def test_what_transformers_writes_of_a_backbone_of_timm_is_taken(written):
    config = CONFIG_MAPPING["conditional_detr"](**written).to_dict()
    assert config["backbone_config"]["model_type"] == "timm_backbone"
    assert own_resnet(config)["backbone_config"]["model_type"] == "resnet"


@pytest.mark.parametrize("name", list(CONFIGS))
def test_defaults_are_among_what_is_taken(name):
    fields = family_of(CONFIGS[name]).fields
    defaults = CONFIG_MAPPING[name]().to_dict()
    for field, allowed in fields.only.items():
        assert field in COMMON or defaults.get(field, allowed[0]) in allowed


def test_an_unknown_family_is_told_those_that_are_known():
    with pytest.raises(WeightsError, match="'yolos'.* detr, conditional_detr, rt_detr_v2, d_fine"):
        family_of({"model_type": "yolos"})


def test_only_detectors_are_taken():
    config = {**CONFIGS["rf_detr"], "architectures": ["RfDetrForInstanceSegmentation"]}
    with pytest.raises(WeightsError, match="RfDetrForInstanceSegmentation"):
        family_of(config)


def prepared(name, **stated):
    return family_of(CONFIGS[name]).preparation(stated, CONFIGS[name])


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("conditional_detr", {"max_position_embeddings": 1024, "classifier_dropout": 0.0}),
        ("conditional_detr", {"backbone": "resnet50", "use_timm_backbone": False}),
        ("rt_detr_v2", {"disable_custom_kernels": True}),
        ("rt_detr_v2", {"max_length": 20, "temperature": 1.0, "top_k": 50}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_older_releases_write_and_changes_nothing_is_no_reason_to_refuse(name, written):
    plain, config = CONFIGS[name], {**CONFIGS[name], **written}
    weights = [family_of(each).build(each).state_dict() for each in (plain, config)]
    assert {key: value.shape for key, value in weights[0].items()} == {
        key: value.shape for key, value in weights[1].items()
    }


@pytest.mark.parametrize("named", ["ViTForImageClassification", 5, {"a": 1}])
def test_architectures_that_make_no_sense_are_told(named):
    with pytest.raises(WeightsError, match="architectures"):
        family_of({**CONFIGS["d_fine"], "architectures": named})


def test_preparation_as_stated():
    found = prepared("d_fine", size={"height": 320, "width": 480}, do_normalize=False)
    assert found.input == StretchInput(height=320, width=480)
    assert found.normalization == NOT_NORMALISED
    given = {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    assert prepared("d_fine", **given).normalization.std == (0.25, 0.25, 0.25)
    edges = {"shortest_edge": 400, "longest_edge": 600}
    expected = ShortestEdgeInput(shortest_edge=400, longest_edge=600)
    assert prepared("conditional_detr", size=edges).input == expected


def test_preparation_where_nothing_is_stated():
    assert prepared("rt_detr_v2").input == StretchInput(height=640, width=640)
    assert prepared("rt_detr_v2").normalization == NOT_NORMALISED
    assert prepared("rf_detr").input == StretchInput(height=96, width=96)
    assert prepared("rf_detr").normalization.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    "stated",
    [
        {"size": {"shortest_edge": 800, "longest_edge": 1333}},
        {"size": {"height": 0, "width": 640}},
        {"size": {"height": 10**6, "width": 640}},
        {"resample": 3},
        {"do_rescale": False},
        {"do_rescale": None},
        {"do_resize": None},
        {"image_processor_type": "DetrImageProcessor"},
        {"feature_extractor_type": "ConditionalDetrFeatureExtractor"},
        {"do_center_crop": True},
        {"pad_size": {"height": 640, "width": 640}},
        {"rescale_factor": 1.0},
        {"image_std": [0, 1, 1], "do_normalize": True},
        {"sharpen": 2},
    ],
    ids=lambda value: next(iter(value)),
)
def test_preparation_that_cannot_be_honoured_is_refused_by_name(stated):
    with pytest.raises(WeightsError, match=next(iter(stated))):
        prepared("d_fine", **stated)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("d_fine", {"image_processor_type": "RTDetrImageProcessorFast"}),
        ("conditional_detr", {"feature_extractor_type": "ConditionalDetrFeatureExtractor"}),
    ],
)
def test_the_image_processor_of_the_family_is_taken_in_every_form_of_its_name(name, named):
    assert prepared(name, **named) == prepared(name)


def test_no_size_is_taken_from_a_processor_that_would_resize_otherwise():
    with pytest.raises(WeightsError, match="states no size"):
        prepared("rf_detr", do_normalize=True)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_normalising_is_left_out_where_it_is_null(name):
    """As transformers does it; where nothing is said, it is as the family has it."""
    size = {} if name == "conditional_detr" else {"size": {"height": 96, "width": 96}}
    assert prepared(name, **size, do_normalize=None).normalization == NOT_NORMALISED


def test_a_whole_processor_goes_before_the_file_of_its_own(tmp_path):
    """As in transformers."""
    own = {"size": {"height": 96, "width": 96}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(own))
    assert read_processor(tmp_path) == own
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "Other"}))
    assert read_processor(tmp_path) == own
    whole = {"image_processor": {"do_normalize": False}}
    (tmp_path / "processor_config.json").write_text(json.dumps(whole))
    assert read_processor(tmp_path) == {"do_normalize": False}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": 5}))
    with pytest.raises(WeightsError, match="image_processor is 5"):
        read_processor(tmp_path)


def test_which_layers_look_by_windows_is_among_what_determines_the_graphs():
    fields = family_of(CONFIGS["rf_detr"]).fields
    inner = {**CONFIGS["rf_detr"]["backbone_config"], "window_block_indexes": [0, 1]}
    stated = fields.stated({**CONFIGS["rf_detr"], "backbone_config": inner})
    assert stated["backbone_config"]["window_block_indexes"] == [0, 1]


def test_names_and_ids(tmp_path):
    own, _ = categories_of(tmp_path, 3, {0: "cat", 1: "dog", 2: "own thing"})
    assert [(each.class_index, each.id, each.name) for each in own] == [
        (0, 0, "cat"),
        (1, 1, "dog"),
        (2, 2, "own thing"),
    ]
    coco, remarks = categories_of(tmp_path, 3, {0: "person", 1: "sofa", 2: "tvmonitor"})
    assert [(each.id, each.name) for each in coco] == [(1, "person"), (63, "couch"), (72, "tv")]
    assert remarks
    gaps, remarks = categories_of(tmp_path, 4, {0: "N/A", 1: "person", 2: "bicycle", 3: "N/A"})
    assert [(each.class_index, each.id) for each in gaps] == [(1, 1), (2, 2)]
    assert remarks == ()
    unnamed, _ = categories_of(tmp_path, 2, None)
    assert [each.name for each in unnamed] == ["class 0", "class 1"]
    with pytest.raises(WeightsError, match="class 7"):
        categories_of(tmp_path, 3, {7: "cat"})


def test_families_have_names_of_their_own():
    assert len({family.name for family in FAMILIES}) == len(FAMILIES) == 5


def test_a_model_that_would_detect_nothing_is_refused():
    with pytest.raises(WeightsError, match="calls every class 'N/A'"):
        categories_of(Path("model"), 2, {0: "N/A", 1: "N/A"})
    found, _ = categories_of(Path("model"), 2, {0: "N/A"})
    assert [each.name for each in found] == ["class 1"]
