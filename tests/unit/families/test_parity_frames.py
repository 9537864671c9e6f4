"""The parity experiment compares at a frame where rounding decides nothing, or says what it does.

Source of the claim: `docs/families.md`, how published sizes were checked.
"""

import copy

import numpy as np
import pytest
import torch

from detr.errors import ExportError
from detr.families.proposals import Halves
from experiments.family_parity.frames import LEAST_GAP, are_same, is_ordered, logit, stable_frame

NAMES = {0: "cat", 1: "dog", 2: "own thing"}


@pytest.mark.parametrize("name", ["rt_detr_v2", "d_fine discrete", "conditional_detr"])
def test_the_best_scores_of_a_stable_frame_are_apart(splits, exported, name):
    frame = stable_frame(splits[name], Halves(*exported[name]), NAMES)
    assert frame.rgb.dtype == np.uint8
    assert {name for name, _, _ in frame.expected} <= set(NAMES.values())
    logits = logit([score for _, score, _ in frame.expected])
    assert (np.diff(-logits[:101]) > LEAST_GAP).all()


def test_rows_that_stand_for_nothing_are_not_expected(splits, exported):
    arguments = splits["rt_detr_v2"], Halves(*exported["rt_detr_v2"])
    every = stable_frame(*arguments, NAMES)
    best = every.expected[0][0]
    fewer = stable_frame(*arguments, {row: name for row, name in NAMES.items() if name != best})
    assert fewer.seed == every.seed
    assert fewer.expected == [row for row in every.expected if row[0] != best]


def test_scores_that_tie_are_told(splits, exported):
    split = copy.deepcopy(splits["rt_detr_v2"])
    with torch.no_grad():
        for head in split.whole.model.model.decoder.class_embed:
            head.weight.zero_()
    with pytest.raises(ExportError, match=r"each of 2 frames: two of the best 101 .* 2e-05 at 2$"):
        stable_frame(split, Halves(*exported["rt_detr_v2"]), NAMES, most_frames=2)


def test_other_proposals_are_told(splits, exported):
    split = copy.deepcopy(splits["rt_detr_v2"])
    with torch.no_grad():
        split.whole.model.model.enc_score_head.weight.neg_()
    with pytest.raises(ExportError, match="the graph and the model choose other proposals at"):
        stable_frame(split, Halves(*exported["rt_detr_v2"]), NAMES, most_frames=4)


@pytest.mark.parametrize(
    ("family", "one", "other", "same"),
    [
        ("rt_detr_v2", [[3, 1, 2]], [[1, 2, 3]], True),
        ("rt_detr_v2", [[3, 1, 2]], [[1, 2, 4]], False),
        ("rf_detr", [[3, 1, 2]], [[3, 1, 2]], True),
        ("rf_detr", [[3, 1, 2]], [[1, 2, 3]], False),
        ("detr", None, None, True),
        ("rf_detr", [[1]], None, False),
    ],
)
def test_the_order_of_proposals_matters_to_rf_detr_alone(family, one, other, same):
    one, other = (None if rows is None else np.array(rows) for rows in (one, other))
    assert are_same(family, one, other) is same


def test_only_the_best_have_to_be_apart():
    scores = list(np.linspace(0.9, 0.1, 101)) + [0.05, 0.05]
    assert is_ordered([("cat", score, []) for score in scores])
    assert not is_ordered([("cat", score, []) for score in [0.9, *scores]])
