"""`python -m tests.data.make_family_bundles [NAME ...]` makes `tests/data/families`.

A bundle of each family, with random weights and as small as its configuration allows, and what
transformers' whole model makes of two frames. Tests that have neither torch nor transformers run
these, those on Python 3.8 among them.
"""

import sys
from pathlib import Path

import numpy as np

from common.bundle import Normalization, ShortestEdgeInput, StretchInput
from detr.families.base import Preparation
from detr.families.categories import categories_of
from detr.families.export import FamilyDescription, export_family
from detr.families.proposals import detect
from detr.families.random_weights import spread_weights
from detr.families.registry import family_of
from tests.tiny_families import CONFIGS, SIDE, frames, prepared

FOLDER = Path(__file__).parent / "families"
NAMES = {0: "cat", 1: "dog", 2: "own thing"}
SEED = 1


def main() -> None:
    """Write the bundles anew, all or those that are named."""
    discrete = {**CONFIGS["d_fine"], "decoder_method": "discrete"}
    for name, config in {**CONFIGS, "d_fine_discrete": discrete}.items():
        if name in sys.argv[1:] or len(sys.argv) == 1:
            make(name, config)


def make(name, config):
    """Write one bundle, and what it is to say beside it."""
    family = family_of(config)
    policy = StretchInput(height=SIDE, width=SIDE)
    if family.name == "conditional_detr":
        policy = ShortestEdgeInput(shortest_edge=SIDE, longest_edge=2 * SIDE)
    model = family.build({**config, "id2label": {str(row): each for row, each in NAMES.items()}})
    spread_weights(model, SEED, (SIDE, SIDE))
    split = family.split(model, Preparation(policy, Normalization()))
    categories, _ = categories_of(FOLDER, len(NAMES), NAMES)
    described = FamilyDescription(
        name, categories, "Apache-2.0", f"random weights, seed {SEED}", trained=False
    )
    exported = export_family(split, FOLDER / name, described, overwrite=True)
    expect(name, split)
    sys.stdout.write(f"{exported.bundle.folder}: {exported.max_difference:.1e}\n")


def expect(name, split):
    """Write what the whole model makes of the frames."""
    pixels, _ = prepared(frames(), split.preparation.input, split.preparation.normalization)
    (logits, boxes), _ = detect(split.whole, pixels, np.zeros((len(pixels), SIDE, SIDE), bool))
    np.savez_compressed(FOLDER / f"{name}.npz", logits=logits, boxes=boxes)


if __name__ == "__main__":
    main()
