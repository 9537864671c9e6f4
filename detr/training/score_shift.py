"""The shift that makes the default threshold fit a model that scores by sigmoid.

D-FINE's scores follow the overlap of a box with its object, so that a box that is certainly right
may score 0.5. With the shift, a score of 0.7 (the default threshold) means that a box is as likely
right as wrong. AP does not change, since the order of the scores does not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.domain.detections import DEFAULT_SCORE_THRESHOLD
from common.domain.errors import ConfigurationError
from detr.coco.average_precision import judged_scores, result_rows
from detr.training.checkpoints import load_checkpoint
from detr.training.data import categories_of, evaluation_folder
from detr.training.families import trained_family
from detr.training.state import recipe_of

# Below it there is nothing but boxes that are wrong, which say nothing of where the middle lies.
_LEAST_SCORE = 0.02


def measured_shift(checkpoint: Path, cache: Path | None, limit: int | None = None) -> float:
    """Return the `score_shift` that fits a run's averaged weights, on its evaluation pictures.

    Args:
        checkpoint: of a run of a family that scores by sigmoid.
        cache: folder of fetched artwork, for runs on scenes; None: the default one.
        limit: how many of the first pictures to look at; None: all.

    Raises:
        ConfigurationError: there is no checkpoint, it is of another family, or there are no boxes
            to judge by.
    """
    content = load_checkpoint(checkpoint)
    recipe = recipe_of(content, checkpoint)
    if recipe.family == "detr":
        raise ConfigurationError(f"{checkpoint} is a DETR's, which has a no_object_shift.")
    unshifted = recipe.model_copy(update={"score_shift": 0.0})
    family = trained_family(unshifted)
    folder = evaluation_folder(recipe, cache)
    model = family.plain_model(unshifted, content["average"])
    detector = family.detector(unshifted, model, categories_of(recipe, folder))
    pictures = folder.pictures[:limit]
    rows = [
        row
        for picture in pictures
        for row in result_rows(picture["id"], detector.detect(folder.read(picture)))
    ]
    scores, right = judged_scores(folder.instances, rows, [one["id"] for one in pictures])
    return fitted_shift(scores, right)


def fitted_shift(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return what to add to logits so that half of the boxes that score 0.7 are right.

    A logistic curve is fitted to what is right by logit.

    Args:
        scores: of detections, 0 to 1.
        right: whether each is.

    Raises:
        ConfigurationError: there are no right boxes, or no wrong ones.
    """
    from scipy.optimize import minimize

    kept = scores >= _LEAST_SCORE
    scores, right = scores[kept], right[kept]
    if right.all() or not right.any():
        raise ConfigurationError("there are no right boxes to judge scores by, or no wrong ones.")
    logits = _logit(np.clip(scores, 1e-6, 1 - 1e-6))
    sign = np.where(right, 1.0, -1.0)

    def loss(line: NDArray[np.float64]) -> float:
        return float(np.logaddexp(0, -sign * (line[0] * logits + line[1])).mean())

    slope, offset = minimize(loss, np.array([1.0, 0.0]), method="BFGS").x
    return float(_logit(DEFAULT_SCORE_THRESHOLD) + offset / slope)


def _logit(share: float | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(share / (1 - np.asarray(share))))
