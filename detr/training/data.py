"""From a recipe to batches for training and pictures for evaluation."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from common.bundle import Category, Normalization, ShortestEdgeInput, StretchInput
from common.domain.errors import ConfigurationError
from common.vision.preprocess import preprocess
from detr.coco.categories import same_name
from detr.coco.folder import CocoFolder, check_pictures, open_coco
from detr.coco.instances import Say
from detr.training.batches import (
    PREFETCHED_BATCHES,
    Batch,
    Sample,
    StepSampler,
    collate,
    collate_shared,
    from_workers,
)
from detr.training.processes import rank, world_size
from detr.training.recipe import CocoData, Recipe, ScenesData

EvaluationSplit = Literal["val", "unseen"]
"""Scenes to evaluate on: those of unseen photographs, and those of unseen artwork as well."""

# Where a recipe says how many classes there are.
_CLASSES = {"detr": "architecture.classes", "d_fine": "configuration.num_labels"}
_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class CocoDataset(Dataset[Sample]):
    """Sample i is picture i, flipped and scaled at random (as a function of seed and position).

    Attributes:
        folder: the pictures.
        normalization: the model's mean and standard deviation.
        short_sides: pixels; one is drawn for each picture.
        longest_side: pixels.
        seed: seed of the augmentation.
        stretched: the size that every picture is stretched to instead, if there is one.
    """

    folder: CocoFolder
    normalization: Normalization
    short_sides: Sequence[int]
    longest_side: int
    seed: int
    stretched: StretchInput | None = None

    def __getitem__(self, index: int) -> Sample:
        """Read, augment and preprocess picture `index` (modulo the number of pictures).

        The index grows from epoch to epoch, so each epoch augments a picture differently.
        """
        cv2.setNumThreads(0)
        rng = np.random.default_rng([self.seed, index])
        picture = self.folder.pictures[index % len(self.folder.pictures)]
        pixels = self.folder.read(picture)
        objects = self.folder.annotations[picture["id"]]
        boxes, own_ids = normalised_boxes(objects, pixels.shape)
        rows = self.folder.categories
        classes = np.array([rows[own] for own in own_ids], np.int64)
        if rng.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            boxes[:, 0] = 1 - boxes[:, 0]
        policy = self.stretched or ShortestEdgeInput(
            shortest_edge=int(rng.choice(self.short_sides)), longest_edge=self.longest_side
        )
        image, geometry = preprocess(pixels, policy, self.normalization)
        return Sample(
            image=torch.from_numpy(image[0]),
            valid_size=(geometry.valid_height, geometry.valid_width),
            classes=torch.from_numpy(classes),
            boxes=torch.from_numpy(boxes),
        )


def normalised_boxes(
    annotations: Sequence[dict[str, Any]], shape: Sequence[int]
) -> tuple[NDArray[np.float32], list[int]]:
    """Return boxes (centre x, centre y, width, height in 0..1) and category ids.

    Boxes are clipped to the picture; those without extent are left out, as the official code does.

    Args:
        annotations: with `bbox` in COCO's x, y, width, height.
        shape: height and width of the picture.
    """
    frame = np.array([shape[1], shape[0]], np.float32)
    raw = np.array([a["bbox"] for a in annotations], np.float32).reshape(-1, 4)
    low = np.clip(raw[:, :2], 0, frame)
    high = np.clip(raw[:, :2] + raw[:, 2:], 0, frame)
    kept = (high > low).all(axis=1)
    low, high = low[kept] / frame, high[kept] / frame
    ids = [a["category_id"] for a, is_kept in zip(annotations, kept, strict=True) if is_kept]
    return np.concatenate([(low + high) / 2, high - low], axis=1), ids


def check_data(recipe: Recipe, say: Say) -> None:
    """Look at a recipe's COCO files and every picture before anything runs; scenes are our own.

    Args:
        recipe: the run's recipe.
        say: called with each thing that was corrected.

    Raises:
        CallerError: something is missing or wrong, which is named.
    """
    data = recipe.data
    if not isinstance(data, CocoData):
        return
    training = _open(recipe, data.train_images, data.train_annotations, say)
    check_pictures(training.images, training.pictures)
    same_files = data.val_annotations == data.train_annotations
    evaluated = _open(
        recipe, data.val_images, data.val_annotations, (lambda _: None) if same_files else say
    )
    check_pictures(evaluated.images, evaluated.pictures[: recipe.evaluation.images])
    if data.categories:
        return
    rows = {one["id"]: one["name"] for one in training.instances["categories"]}
    for one in evaluated.instances["categories"]:
        if not same_name(one["name"], rows.get(one["id"], one["name"])):
            raise ConfigurationError(
                f"category {one['id']} is {rows[one['id']]!r} in {data.train_annotations}, but "
                f"{one['name']!r} in {data.val_annotations}."
            )


def training_batches(
    recipe: Recipe,
    cache: Path | None,
    first_step: int,
    workers: int,
    *,
    steps: int | None = None,
    pinned: bool = False,
) -> Iterator[Batch]:
    """Yield this process's batch of each step from `first_step` on.

    Args:
        recipe: the run's recipe.
        cache: folder of fetched artwork and photographs; None: the default one.
        first_step: counted from 0.
        workers: processes that compose or read images; 0: this one does.
        steps: one past the last step; the recipe's by default.
        pinned: put batches where a GPU can read them by itself.

    Raises:
        ConfigurationError: data is missing.
    """
    dataset, length = _training_dataset(recipe, cache)
    sampler = StepSampler(
        first_step=first_step,
        last_step=recipe.steps if steps is None else steps,
        batch_size=recipe.batch_size,
        process=rank(),
        processes=world_size(),
        length=length,
        seed=recipe.seed,
    )
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate_shared if workers else collate,
        prefetch_factor=PREFETCHED_BATCHES if workers else None,
        pin_memory=pinned,
    )
    return from_workers(loader)


def categories_of(recipe: Recipe, folder: CocoFolder) -> tuple[Category, ...]:
    """Return which row of the class head stands for which category."""
    if isinstance(recipe.data, ScenesData):
        return scene_categories()
    return tuple(
        Category(class_index=folder.categories[item["id"]], id=item["id"], name=item["name"])
        for item in folder.instances["categories"]
        if item["id"] in folder.categories
    )


def scene_categories() -> tuple[Category, ...]:
    """Return the scenes' categories; the rows of the class head have no gaps.

    Raises:
        ConfigurationError: `scenes` is not here.
    """
    require_scenes()
    from detr.training.scene_data import categories

    return categories()


def evaluation_folder(
    recipe: Recipe, cache: Path | None, split: EvaluationSplit = "val", workers: int = 0
) -> CocoFolder:
    """Return the pictures to evaluate on; scenes are exported to the cache once, by workers.

    Raises:
        ConfigurationError: data is missing.
    """
    if isinstance(recipe.data, CocoData):
        return _open(recipe, recipe.data.val_images, recipe.data.val_annotations)
    require_scenes()
    from detr.training.scene_data import exported_split

    return exported_split(recipe, recipe.data, cache, split, workers)


def require_scenes() -> None:
    """Make `scenes` importable: an editable install maps only the packages of the wheel.

    Raises:
        ConfigurationError: it is not here.
    """
    if (_PROJECT / "scenes" / "__init__.py").is_file() and str(_PROJECT) not in sys.path:
        sys.path.append(str(_PROJECT))
    if importlib.util.find_spec("scenes") is None:
        raise ConfigurationError(
            "this needs the package `scenes`, which composes the demo model's pictures and which "
            "the installed package leaves out: run it in a checkout of Tandem, or use COCO data."
        )


def _training_dataset(recipe: Recipe, cache: Path | None) -> tuple[Dataset[Sample], int | None]:
    data = recipe.data
    if isinstance(data, CocoData):
        folder = _open(recipe, data.train_images, data.train_annotations)
        pictures = CocoDataset(
            folder,
            recipe.normalization,
            data.short_sides,
            data.longest_side,
            recipe.seed,
            recipe.input if isinstance(recipe.input, StretchInput) else None,
        )
        return pictures, len(folder.pictures)
    require_scenes()
    from detr.training.scene_data import scene_dataset

    return scene_dataset(recipe, data, cache), None


def _open(recipe: Recipe, images: Path, annotations: Path, say: Say = lambda _: None) -> CocoFolder:
    """Open a COCO folder whose categories all have a row in the recipe's class head."""
    named = recipe.data.categories if isinstance(recipe.data, CocoData) else {}
    folder = open_coco(images, annotations, model=named or None, say=say)
    names = {one["id"]: one["name"] for one in folder.instances["categories"]}
    classes = recipe.classes
    for own, row in folder.categories.items():
        if not 0 <= row < classes:
            raise ConfigurationError(
                f"{annotations}: category {own} {names[own]!r} would be row {row} of the class "
                f"head, but {_CLASSES[recipe.family]} is {classes}, so there are rows 0 to "
                f"{classes - 1}: raise {_CLASSES[recipe.family]}, or number the categories from "
                "0 on."
            )
    unknown = [
        one["category_id"]
        for one in folder.instances["annotations"]
        if one["category_id"] not in folder.categories
    ]
    if unknown:
        raise ConfigurationError(
            f"{annotations}: category {unknown[0]} {names[unknown[0]]!r} is none of the recipe's "
            f"data.categories, or of the teacher's: {', '.join(named.values())}."
        )
    return folder
