"""Which task trains a recipe's family."""

from __future__ import annotations

from collections.abc import Callable

from detr.training.recipe import Recipe
from detr.training.task import DetectionTask, Task


def detection_task(recipe: Recipe, say: Callable[[str], None] = lambda _: None) -> Task:
    """Return what trains detection without a teacher, for the recipe's family.

    Args:
        recipe: of the run.
        say: called with what of the recipe's weights file is not used.
    """
    if recipe.family == "detr":
        return DetectionTask(say)
    # Whoever trains a DETR needs no transformers.
    from detr.training.d_fine import DFineTask

    return DFineTask(say)
