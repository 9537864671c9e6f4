"""How other implementations name DETR's parameters: one table for each layout.

Each table turns an official key into the key that the layout has in its place, by substitutions
that apply in turn. Query, key and value projections, one matrix in the official code, are three in
Hugging Face's.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

Rules = tuple[tuple[str, str], ...]

_HEADS: Rules = (
    (r"^input_proj\.", "model.input_projection."),
    (r"^query_embed\.", "model.query_position_embeddings."),
    (r"^class_embed\.", "class_labels_classifier."),
    (r"^bbox_embed\.", "bbox_predictor."),
)
_TRANSFORMER: Rules = (
    (r"^transformer\.decoder\.norm\.", "model.decoder.layernorm."),
    (r"^transformer\.(encoder|decoder)\.layers\.", r"model.\1.layers."),
    (r"\.layers\.(\d+)\.norm1\.", r".layers.\1.self_attn_layer_norm."),
    (r"^model\.encoder\.layers\.(\d+)\.norm2\.", r"model.encoder.layers.\1.final_layer_norm."),
    (
        r"^model\.decoder\.layers\.(\d+)\.norm2\.",
        r"model.decoder.layers.\1.encoder_attn_layer_norm.",
    ),
    (r"^model\.decoder\.layers\.(\d+)\.norm3\.", r"model.decoder.layers.\1.final_layer_norm."),
    (r"\.multihead_attn\.", ".encoder_attn."),
)
# In the files on the hub, in transformers 4 and 5.0, and in what later versions save.
_SAVED: Rules = (
    (r"^backbone\.0\.body\.", "model.backbone.conv_encoder.model."),
    (r"\.linear([12])\.", r".fc\1."),
)
# In the state_dict of transformers 5.1 and later.
_IN_MEMORY: Rules = (
    (r"^backbone\.0\.body\.", "model.backbone.model."),
    (r"\.linear([12])\.", r".mlp.fc\1."),
    (r"\.out_proj\.", ".o_proj."),
)
# The backbone as transformers' own ResNet rather than timm's; follows one of the two above.
OWN_RESNET: Rules = (
    (r"\.model\.(conv|bn)1\.", r".model.embedder.embedder.\g<1>."),
    *(
        (rf"\.model\.layer{stage + 1}\.(\d+)\.", rf".model.encoder.stages.{stage}.layers.\1.")
        for stage in range(4)
    ),
    (r"\.downsample\.0\.", ".shortcut.convolution."),
    (r"\.downsample\.1\.", ".shortcut.normalization."),
    *(
        (rf"\.(stages\.\d\.layers\.\d+)\.(conv|bn){index + 1}\.", rf".\1.layer.{index}.\2.")
        for index in range(3)
    ),
    (r"\.conv\.(\w+)$", r".convolution.\1"),
    (r"\.bn\.(\w+)$", r".normalization.\1"),
)


@dataclass(frozen=True)
class Layout:
    """A way to name DETR's parameters.

    Attributes:
        name: for messages.
        rules: official key to this layout's, as substitutions that apply in turn.
        splits_projections: whether query, key and value projections stand apart.
    """

    name: str
    rules: Rules
    splits_projections: bool

    def keys(self, official: str) -> tuple[str, ...]:
        """Return the keys that make up an official one; several are stacked along the rows."""
        key = official
        for pattern, replacement in self.rules:
            key = re.sub(pattern, replacement, key)
        projection = re.fullmatch(r"(.*\.)in_proj_(weight|bias)", key)
        if projection is None or not self.splits_projections:
            return (key,)
        prefix, kind = projection.groups()
        return tuple(f"{prefix}{letter}_proj.{kind}" for letter in "qkv")


LAYOUTS = (
    Layout("official", (), splits_projections=False),
    Layout("hugging face", _HEADS + _TRANSFORMER + _SAVED, splits_projections=True),
    Layout(
        "hugging face, no timm",
        _HEADS + _TRANSFORMER + _SAVED + OWN_RESNET,
        splits_projections=True,
    ),
    Layout("hugging face in memory", _HEADS + _TRANSFORMER + _IN_MEMORY, splits_projections=True),
    Layout(
        "hugging face in memory, no timm",
        _HEADS + _TRANSFORMER + _IN_MEMORY + OWN_RESNET,
        splits_projections=True,
    ),
)

# Keys that every DETR has; between them they tell the layouts apart.
_TELLING_KEYS = (
    "backbone.0.body.conv1.weight",
    "backbone.0.body.layer1.0.conv1.weight",
    "backbone.0.body.layer4.1.bn2.weight",
    "input_proj.weight",
    "transformer.decoder.layers.0.self_attn.in_proj_weight",
    "transformer.decoder.layers.0.multihead_attn.out_proj.weight",
    "transformer.decoder.layers.0.linear1.weight",
    "transformer.decoder.layers.0.linear2.weight",
    "query_embed.weight",
)


def recognise(keys: Collection[str]) -> Layout | None:
    """Return the layout that fits best, even if keys are missing; None if none fits at all."""

    def fit(layout: Layout) -> int:
        return sum(key in keys for telling in _TELLING_KEYS for key in layout.keys(telling))

    best = max(LAYOUTS, key=fit)
    return best if fit(best) > 0 else None
