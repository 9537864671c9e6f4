"""A ResNet of timm's as transformers' own, which computes the same: timm is not needed then."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from detr.errors import WeightsError
from detr.families.fields import Fields
from detr.importing.hub import TIMM_NAME
from detr.importing.known_fields import names
from detr.importing.layouts import OWN_RESNET
from detr.importing.reading import CONFIG_NAME
from detr.importing.stated import shown

_DEPTHS = {
    "resnet18": [2, 2, 2, 2],
    "resnet34": [3, 4, 6, 3],
    "resnet50": [3, 4, 6, 3],
    "resnet101": [3, 4, 23, 3],
}
_BASIC = ("resnet18", "resnet34")
# In the files on the hub, and in what later releases save.
_BACKBONE = re.compile(r"^model\.backbone\.(?:conv_encoder\.)?model\.")
_TIMM_KEY = re.compile(r"(?:conv1|bn1|layer\d+)\.")
# What is said of a backbone outside of `backbone_config`, by which timm's is meant.
_SAID = ("backbone", "backbone_kwargs", "use_pretrained_backbone", "use_timm_backbone")
_KEYWORDS: Mapping[str, tuple[Any, ...]] = {
    "in_chans": (3, None),
    "num_channels": (3, None),
    "out_indices": ([1, 2, 3, 4], [4], None),
    "output_stride": (32, None),
}
_OF_TIMM = Fields(honoured=frozenset(), only=_KEYWORDS)
_BACKBONE_FIELDS = Fields(
    honoured=names("backbone"),
    only={
        **_KEYWORDS,
        "features_only": (True, None),
        "out_features": (["layer4"], ["layer1", "layer2", "layer3", "layer4"], None),
    },
    irrelevant=names("freeze_batch_norm_2d stage_names use_pretrained_backbone use_timm_backbone"),
)


def own_resnet(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a configuration whose backbone is transformers' own ResNet.

    Raises:
        WeightsError: it is another backbone of timm's, or has keywords that change it.
    """
    inner = config.get("backbone_config")
    if isinstance(inner, dict) and inner.get("model_type") != "timm_backbone":
        if config.get("use_timm_backbone") is False:
            # Older releases write the name of the backbone that they would take of timm's.
            return {key: value for key, value in config.items() if key not in _SAID}
        return config
    for field in ("backbone_config", "backbone_kwargs"):
        if not isinstance(config.get(field) or {}, dict):
            raise WeightsError(f"{CONFIG_NAME}: {field} is {shown(config[field])}, not an object.")
    said = inner if isinstance(inner, dict) else config
    name = said.get("backbone") or "resnet50"
    known = TIMM_NAME.fullmatch(name) if isinstance(name, str) else None
    if known is None:
        raise WeightsError(
            f"{CONFIG_NAME}: backbone is {shown(name)}, and Tandem takes only resnet18, resnet34, "
            "resnet50 or resnet101 there."
        )
    _OF_TIMM.checked(config.get("backbone_kwargs") or {}, f"{CONFIG_NAME}, backbone_kwargs")
    _BACKBONE_FIELDS.checked(inner or {}, f"{CONFIG_NAME}, backbone_config")
    basic = known[1] in _BASIC
    resnet = {
        "model_type": "resnet",
        "embedding_size": 64,
        "hidden_sizes": [64, 128, 256, 512] if basic else [256, 512, 1024, 2048],
        "depths": _DEPTHS[known[1]],
        "layer_type": "basic" if basic else "bottleneck",
        "out_features": ["stage4"],
    }
    rest = {key: value for key, value in config.items() if key not in _SAID}
    return {**rest, "backbone_config": resnet}


def own_resnet_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the keys that they have with transformers' own ResNet."""
    return {_own_key(key): tensor for key, tensor in tensors.items()}


def _own_key(key: str) -> str:
    rest = _BACKBONE.sub("", key)
    if rest == key or not _TIMM_KEY.match(rest):
        return key
    key = f"model.backbone.model.{rest}"
    for pattern, replacement in OWN_RESNET:
        key = re.sub(pattern, replacement, key)
    return key
