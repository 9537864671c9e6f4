"""The `args` that the official training script saves with a model (`main.py` of its code)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detr.importing.stated import Reader, Stated

_SOURCE = "args in the checkpoint"
_SIZES = {
    "encoder_layers": "enc_layers",
    "decoder_layers": "dec_layers",
    "hidden_dim": "hidden_dim",
    "feedforward_dim": "dim_feedforward",
    "queries": "num_queries",
}


def stated_by_args(args: Mapping[str, Any]) -> Stated:
    """Take what determines the computation; the rest is of training only.

    Raises:
        WeightsError: a value means another model than Tandem's, or is of a wrong type.
    """
    if not args:
        return Stated()
    reader = Reader(_SOURCE, args)
    reader.only("pre_norm", False)
    reader.only("masks", False)
    reader.only("position_embedding", "sine", "v2")
    reader.only("two_stage", False)
    sizes: dict[str, tuple[str, Any]] = {}
    for key, name in _SIZES.items():
        # An encoder may have no layer.
        value = args.get(name) if args.get(name) == 0 else reader.whole(name)
        if value is not None:
            sizes[key] = (name, value)
    backbone = reader.text("backbone")
    if backbone is not None:
        sizes["backbone"] = ("backbone", backbone)
    return Stated(_SOURCE, reader.whole("nheads"), reader.flag("dilation"), sizes)
