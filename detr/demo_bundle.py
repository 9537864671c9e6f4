"""`python -m detr.demo_bundle [FOLDER]` makes `tests/data/demo-r18`.

A random DETR that stands in wherever a model's boxes need not mean anything. The same torch gives
the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import torch
from torch import nn

from common.bundle import Architecture, FixedInput
from detr.coco.categories import CLASSES, COCO_CATEGORIES
from detr.export import Description, ExportedBundle, export_bundle
from detr.model import DETR

FOLDER = Path(__file__).parent.parent / "tests" / "data" / "demo-r18"
SEED = 20200526
QUERY_GAIN, CLASS_GAIN, BOX_GAIN = 3, 5.5, 5

# A quarter of the width and a third of the depth of the paper's, so that the folder is small
# enough for a repository.
ARCHITECTURE = Architecture(
    backbone="resnet18",
    base_width=16,
    encoder_layers=2,
    decoder_layers=2,
    hidden_dim=128,
    feedforward_dim=512,
    classes=CLASSES,
)

DESCRIPTION = Description(
    name="demo-r18",
    input=FixedInput(height=320, width=320),
    categories=COCO_CATEGORIES,
    license="Apache-2.0",
    origin=f"random weights, seed {SEED}, made by detr.demo_bundle",
    trained=False,
)


def make_demo_bundle(folder: Path) -> ExportedBundle:
    """Write the bundle, replacing one that is there."""
    return export_bundle(demo_model(), folder, DESCRIPTION, overwrite=True)


def demo_model() -> DETR:
    """Return the seeded model.

    Freshly initialised, all queries of a DETR say nearly the same, whatever the frame. Sharper
    attention and larger heads make boxes differ by query and by frame, and a few scores pass the
    usual threshold, so that a frame or tensor mixed up on its way shows in the boxes.
    """
    # fork_rng: whoever calls this keeps their own random state.
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(SEED)
        model = DETR(ARCHITECTURE)
        for name, parameter in model.transformer.decoder.named_parameters():
            if name.endswith("in_proj_weight"):
                parameter[: ARCHITECTURE.hidden_dim] *= QUERY_GAIN
        model.class_embed.weight *= CLASS_GAIN
        last_layer = cast(nn.Linear, model.bbox_embed.layers[-1])
        last_layer.weight *= BOX_GAIN
    return model.eval()


if __name__ == "__main__":
    exported = make_demo_bundle(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
    sys.stdout.write(f"{exported.bundle.folder}: {exported.bundle.digest}\n")
