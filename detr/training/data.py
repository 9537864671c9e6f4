"""From a recipe to batches for training and pictures for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from torch.utils.data import DataLoader, Dataset

from common.bundle import Category
from common.domain.errors import ConfigurationError
from detr.coco_categories import same_name
from detr.coco_entries import Say
from detr.coco_folder import CocoFolder, check_pictures, open_coco
from detr.training.coco_data import CocoDataset
from detr.training.distributed import rank, world_size
from detr.training.recipe import CocoData, Recipe, ScenesData
from detr.training.sampling import StepSampler
from detr.training.scene_data import SceneDataset
from detr.training.targets import Batch, Sample, collate
from detr.training.workers import PREFETCHED_BATCHES, collate_shared, from_workers
from scenes.categories import CATEGORIES
from scenes.coco_format import export_coco
from scenes.compositor import Scene, SceneSettings
from scenes.sources import Split
from scenes.splits import SceneSource, open_split


def check_data(recipe: Recipe, say: Say) -> None:
    """Look at a recipe's COCO files and every picture before anything runs; scenes are our own.

    Args:
        recipe: of the run.
        say: is told what was put right.

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
    cache: Path,
    first_step: int,
    workers: int,
    *,
    steps: int | None = None,
    pinned: bool = False,
) -> Iterator[Batch]:
    """Yield this process's batch of each step from `first_step` on.

    Args:
        recipe: of the run.
        cache: folder of fetched artwork and photographs.
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
    """Return the scenes' categories; the rows of the class head have no gaps."""
    return tuple(
        Category(class_index=index, id=category.id, name=category.name)
        for index, category in enumerate(CATEGORIES)
    )


def evaluation_folder(
    recipe: Recipe, cache: Path, split: Split = "val", workers: int = 0
) -> CocoFolder:
    """Return the pictures to evaluate on; scenes are exported to the cache once, by workers.

    Raises:
        ConfigurationError: data is missing.
    """
    if isinstance(recipe.data, CocoData):
        return _open(recipe, recipe.data.val_images, recipe.data.val_annotations)
    folder = evaluation_path(recipe, recipe.data, cache, split)
    if not (folder / "instances.json").exists():
        _export_split(recipe, recipe.data, cache, split, folder=folder, workers=workers)
    return open_coco(folder / "images", folder / "instances.json")


def evaluation_path(recipe: Recipe, data: ScenesData, cache: Path, split: Split) -> Path:
    """Return where the scenes of `split` are exported to."""
    size = f"{data.val_width}x{data.val_height}"
    return cache / "exported" / f"{split}-seed{recipe.seed}-{data.val_scenes}-{size}"


def _export_split(
    recipe: Recipe, data: ScenesData, cache: Path, split: Split, *, folder: Path, workers: int
) -> None:
    source = open_split(cache, split, recipe.seed, SceneSettings(max_objects=data.max_objects))
    size = (data.val_height, data.val_width)
    scenes = DataLoader(
        _Composed(source, data.val_scenes, size),
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,
    )
    export_coco(scenes, folder, f"Tandem scenes, split {split}, seed {recipe.seed}")


@dataclass(frozen=True)
class _Composed(Dataset[Scene]):
    """The first scenes of a split."""

    source: SceneSource
    count: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        cv2.setNumThreads(0)
        return self.source.scene(index, *self.size)


def _unchanged(scene: Any) -> Any:
    return scene


def _training_dataset(recipe: Recipe, cache: Path) -> tuple[Dataset[Sample], int | None]:
    data = recipe.data
    if isinstance(data, CocoData):
        folder = _open(recipe, data.train_images, data.train_annotations)
        pictures = CocoDataset(
            folder, recipe.normalization, data.short_sides, data.longest_side, recipe.seed
        )
        return pictures, len(folder.pictures)
    source = open_split(cache, "train", recipe.seed, SceneSettings(max_objects=data.max_objects))
    dataset = SceneDataset(
        source=source,
        policy=recipe.input,
        normalization=recipe.normalization,
        other_aspect_share=data.other_aspect_share,
        reduced_share=data.reduced_share,
        early_samples=data.early_steps * recipe.batch_size,
        early_scale=data.early_scale,
        first_scene=data.first_scene,
    )
    return dataset, None


def _open(recipe: Recipe, images: Path, annotations: Path, say: Say = lambda _: None) -> CocoFolder:
    """Open a COCO folder whose categories all have a row in the recipe's class head."""
    named = recipe.data.categories if isinstance(recipe.data, CocoData) else {}
    folder = open_coco(images, annotations, model=named or None, say=say)
    names = {one["id"]: one["name"] for one in folder.instances["categories"]}
    classes = recipe.architecture.classes
    for own, row in folder.categories.items():
        if not 0 <= row < classes:
            raise ConfigurationError(
                f"{annotations}: category {own} {names[own]!r} would be row {row} of the class "
                f"head, but architecture.classes is {classes}, so there are rows 0 to "
                f"{classes - 1}: raise architecture.classes, or number the categories from 0 on."
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
