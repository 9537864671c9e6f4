"""Hugging Face's `config.json` and `preprocessor_config.json`: what changes what a model computes.

Fields are those of `DetrConfig` in transformers 4.20 to 5.23, and of what it holds: each is used,
held against the weights, or refused by name. Of a field that is unknown a remark is made, since
transformers' DETR would not use it either (`detr.importing.known_fields`). Fields of training
(dropout, costs, coefficients, auxiliary losses, initialisation) and of saving (versions, dtype) are
not looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.bundle import Normalization, ShortestEdgeInput
from detr.errors import WeightsError
from detr.importing.known_fields import unknown_to_detr
from detr.importing.processors import PREPROCESSOR_NAME, require_processor
from detr.importing.reading import CONFIG_NAME
from detr.importing.stated import DEFAULT_HEADS, Reader, Stated, shown

_SIZES = {
    "encoder_layers": ("encoder_layers", "num_hidden_layers"),
    "decoder_layers": ("decoder_layers",),
    "hidden_dim": ("d_model", "hidden_size"),
    "queries": ("num_queries",),
    "classes": ("num_labels",),
}
# Of timm, with the tag of its pretrained weights. Others of the same shapes compute something else:
# `resnetblur50` filters before it takes strides.
TIMM_NAME = re.compile(r"(?:tv_)?(resnet(?:18|34|50|101))(?:\.[\w.]+)?")
_LAST_STAGES = ([4], [1, 2, 3, 4], [0, 1, 2, 3, 4], [2, 3, 4], [3, 4], [-1])
# What transformers writes where nobody gave names.
_NO_NAME = re.compile(r"LABEL_\d+")
# Rows of the class head that stand for nothing, as in the published COCO models.
NOT_USED = "N/A"


def stated_by_config(config: Mapping[str, Any]) -> Stated:
    """Read what determines the computation.

    Raises:
        WeightsError: a field means another model than Tandem's, contradicts another one, or is of
            a wrong type.
    """
    if not config:
        return Stated()
    reader = Reader(CONFIG_NAME, config)
    reader.only("model_type", "detr")
    reader.only("activation_function", "relu")
    reader.only("position_embedding_type", "sine")
    reader.only("num_channels", 3)
    reader.only("scale_embedding", False)
    reader.only("normalize_before", False)
    reader.only("pruned_heads", {})
    if config.get("quantization_config") is not None:
        raise WeightsError(
            f"{CONFIG_NAME}: quantization_config is given; the weights have to be whole."
        )
    if config.get("auto_map"):
        raise WeightsError(
            f"{CONFIG_NAME}: auto_map names code of the model's own, which Tandem does not run."
        )
    sizes: dict[str, tuple[str, Any]] = {}
    for key, names in _SIZES.items():
        value = config.get(names[0]) if config.get(names[0]) == 0 else reader.whole(*names)
        if value is not None:
            sizes[key] = (names[0], value)
    feedforward = _same(reader, "encoder_ffn_dim", "decoder_ffn_dim", config)
    if feedforward is not None:
        sizes["feedforward_dim"] = ("decoder_ffn_dim", feedforward)
    heads = _same(reader, "encoder_attention_heads", "decoder_attention_heads", config)
    dilation = _backbone(reader, sizes)
    return Stated(
        CONFIG_NAME,
        heads or reader.whole("num_attention_heads") or DEFAULT_HEADS,
        bool(dilation),
        sizes,
        names_of_rows(config),
        unknown_to_detr(config),
    )


def _same(reader: Reader, encoder: str, decoder: str, config: Mapping[str, Any]) -> int | None:
    """Return a value that encoder and decoder share in Tandem's DETR."""
    one, other = reader.whole(encoder), reader.whole(decoder)
    if one is not None and other is not None and one != other and config.get("encoder_layers") != 0:
        raise WeightsError(
            f"{CONFIG_NAME}: {encoder} is {one} and {decoder} {other}; Tandem's DETR has the same "
            "in both."
        )
    return one if other is None else other


def _backbone(reader: Reader, sizes: dict[str, tuple[str, Any]]) -> bool | None:
    """Add what is said of the backbone to `sizes`; returns whether it is dilated."""
    dilation = reader.flag("dilation")
    timm = reader.flag("use_timm_backbone")
    strides = [_output_stride(reader, "backbone_kwargs")]
    inner = _object(reader, "backbone_config")
    if inner is not None:
        nested = Reader(f"{CONFIG_NAME}, backbone_config", inner)
        nested.only("model_type", "resnet", "timm_backbone")
        nested.only("num_channels", 3)
        if inner.get("model_type", "resnet") == "resnet":
            timm = False
            _own_resnet(nested, sizes)
        else:
            _timm_name(nested, sizes)
            strides.append(_stride(nested))
        _last_stage(nested)
    elif timm is not False:
        _timm_name(reader, sizes)
    if dilation and timm is False:
        raise WeightsError(
            f"{CONFIG_NAME}: dilation is true, which transformers does not do to a backbone that "
            "is not timm's: let it say what was trained."
        )
    for stride in filter(None, strides):
        if dilation is not None and dilation != (stride == 16) and (dilation or stride == 16):
            # Since 5.0 dilation is told by the stride as well.
            raise WeightsError(
                f"{CONFIG_NAME}: dilation is {dilation}, but output_stride is {stride}."
            )
        dilation = stride == 16
    return dilation


def _object(reader: Reader, name: str) -> Mapping[str, Any] | None:
    value = reader.content.get(name)
    if value is not None and not isinstance(value, dict):
        raise WeightsError(f"{reader.source}: {name} is {shown(value)}, not an object.")
    return value


def _output_stride(reader: Reader, name: str) -> int | None:
    """Return the output stride among the keywords that timm gets."""
    keywords = _object(reader, name)
    if not keywords:
        return None
    nested = Reader(f"{reader.source}, {name}", keywords)
    surplus = sorted(set(keywords) - {"out_indices", "output_stride", "in_chans", "num_channels"})
    if surplus:
        raise WeightsError(
            f"{nested.source}: {surplus[0]} is given, and Tandem cannot tell what it changes."
        )
    nested.only("in_chans", 3)
    nested.only("num_channels", 3)
    _last_stage(nested)
    return _stride(nested)


def _stride(reader: Reader) -> int | None:
    reader.only("output_stride", 16, 32)
    return reader.whole("output_stride")


def _last_stage(reader: Reader) -> None:
    """Refuse a backbone that gives the transformer other features than the last stage's."""
    reader.only("out_indices", *_LAST_STAGES)
    features = reader.content.get("out_features")
    if features is not None and (
        not isinstance(features, list) or features[-1:] not in (["stage4"], ["layer4"])
    ):
        raise WeightsError(
            f"{reader.source}: out_features is {shown(features)}, and Tandem's DETR takes stage4."
        )


def _timm_name(reader: Reader, sizes: dict[str, tuple[str, Any]]) -> None:
    name = reader.text("backbone")
    if name is None:
        return
    known = TIMM_NAME.fullmatch(name)
    if known is None:
        raise WeightsError(
            f"{reader.source}: backbone is {shown(name)}, and Tandem's DETR has only resnet18, "
            "resnet34, resnet50 or resnet101 there."
        )
    sizes["backbone"] = ("backbone", known[1])


def _own_resnet(reader: Reader, sizes: dict[str, tuple[str, Any]]) -> None:
    """Check transformers' own ResNet; the weights show its depths and widths."""
    reader.only("hidden_act", "relu")
    reader.only("downsample_in_first_stage", False)
    reader.only("downsample_in_bottleneck", False)
    reader.only("layer_type", "basic", "bottleneck")
    width = reader.whole("embedding_size")
    if width is not None:
        sizes["base_width"] = ("backbone_config.embedding_size", width)


def names_of_rows(config: Mapping[str, Any]) -> Mapping[int, str] | None:
    """Return names by row of the class head; None where nobody gave any.

    Raises:
        WeightsError: `id2label` holds something else than names by row.
    """
    labels = config.get("id2label")
    if labels is None:
        return None
    if not isinstance(labels, dict):
        raise WeightsError(f"{CONFIG_NAME}: id2label is {shown(labels)}, not an object.")
    names: dict[int, str] = {}
    for row, name in labels.items():
        if (
            not re.fullmatch(r"\d{1,9}", str(row), re.ASCII)
            or not isinstance(name, str)
            or not name.strip()
        ):
            raise WeightsError(
                f"{CONFIG_NAME}: id2label has {shown(row)}: {shown(name)}, which is not a row's "
                "number and a name."
            )
        names[int(row)] = name.strip()
    if not names or all(_NO_NAME.fullmatch(name) for name in names.values()):
        return None
    return names


def used_names(folder: Path, names: Mapping[int, str]) -> dict[int, str]:
    """The rows of the class head that stand for something.

    Args:
        folder: of the model, for messages.
        names: of all rows.

    Raises:
        WeightsError: none does, so that the model would detect nothing.
    """
    used = {row: name for row, name in names.items() if name != NOT_USED}
    if not used:
        raise WeightsError(
            f"{folder}: id2label calls every class {NOT_USED!r}, which stands for a class that is "
            "not used: nothing would be left to detect."
        )
    return used


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing that a model was trained with.

    Attributes:
        normalization: mean and standard deviation; ImageNet's unless stated.
        input: the resize, if it is DETR's; None where nothing, or another one, is stated.
    """

    normalization: Normalization = Normalization()
    input: ShortestEdgeInput | None = None


def stated_preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    """Read what changes the pixels that a model sees.

    Raises:
        WeightsError: a field means what Tandem does not do, or is of a wrong type.
    """
    reader = Reader(PREPROCESSOR_NAME, config)
    require_processor(config, "Detr")
    for step in ("do_normalize", "do_rescale"):
        # Without a value it is not done, unlike where nothing is said.
        if config.get(step, True) is not True:
            raise WeightsError(
                f"{PREPROCESSOR_NAME}: {step} is {shown(config[step])}, and Tandem's DETR has only "
                "True there."
            )
    reader.only("format", "coco_detection")
    factor = config.get("rescale_factor")
    if factor is not None and not (_number(factor) and math.isclose(factor, 1 / 255)):
        raise WeightsError(
            f"{PREPROCESSOR_NAME}: rescale_factor is {shown(factor)}, and Tandem has only 1/255."
        )
    default = Normalization()
    normalization = Normalization(
        mean=three_numbers(config, "image_mean") or default.mean,
        std=three_numbers(config, "image_std", positive=True) or default.std,
    )
    return Preprocessing(normalization, _input(config))


def three_numbers(
    config: Mapping[str, Any], name: str, positive: bool = False
) -> tuple[float, float, float] | None:
    """Return a number for each of R, G and B; None where there are none.

    Raises:
        WeightsError: it is something else, or not above 0 where it has to be.
    """
    value = config.get(name)
    if value is None:
        return None
    fits = isinstance(value, list) and len(value) == 3 and all(map(_number, value))
    if not fits or (positive and min(value) <= 0):
        raise WeightsError(
            f"{PREPROCESSOR_NAME}: {name} is {shown(value)}, not a number for each of R, G and B."
        )
    red, green, blue = map(float, value)
    return red, green, blue


def _input(config: Mapping[str, Any]) -> ShortestEdgeInput | None:
    size = config.get("size")
    if type(size) is int:
        size = {"shortest_edge": size, "longest_edge": config.get("max_size")}
    if not isinstance(size, dict):
        return None
    reader = Reader(f"{PREPROCESSOR_NAME}, size", size)
    short, long = reader.whole("shortest_edge"), reader.whole("longest_edge")
    if short is None or long is None or long < short:
        return None
    return ShortestEdgeInput(shortest_edge=short, longest_edge=long)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6
