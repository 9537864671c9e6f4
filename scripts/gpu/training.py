"""Training and distillation: images a second on the GPU beside the CPU's."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from scripts.gpu.machine import CLIP, ROOT, Options, clip_frames, skip, tell, without_gpu


def training(options: Options) -> None:
    """Train and distil the demo model: images a second here and on the CPU, and a checkpoint."""
    if without_gpu(options):
        return
    if options.artwork is None and not options.quick:
        skip("no --artwork is given; `python -m scenes pack FOLDER` makes it")
        return
    import torch

    from detr.training.data import training_batches
    from detr.training.loop import Surroundings
    from detr.training.recipe import with_precision
    from detr.training.rehearsal import rehearse
    from detr.training.state import restore_state

    folder = Path(options.folder) / "training"
    cache = None if options.artwork is None else Path(options.artwork)
    cpu = torch.device("cpu")
    device = torch.device("cuda", 0) if options.device == "cuda" else cpu
    workers = 1 if options.quick else max(1, (os.cpu_count() or 1) - 1)
    here = Surroundings(folder, cache, False, workers, lambda *_: None, _to_log, device)
    recipe = _recipe(options)
    tell(trained=_trained(recipe, replace(here, minutes=(2 if options.quick else 25) / 60)))
    moved = restore_state(folder / "checkpoint.pt", recipe, device=cpu)
    tell(checkpoint_on_the_cpu={"step": moved.step, "device": str(moved.device)})
    batch = next(training_batches(recipe, cache, 0, 0))
    few = 2 if options.quick else 10
    for precision in ("fp32", "bf16", "fp16") if device.type == "cuda" else ("fp32",):
        changed = with_precision(recipe, precision)
        tell(**{f"step_{precision}": _steps_of(changed, batch, device, few)})
    tell(
        distillation_step=_distillation_steps(recipe.batch_size, batch, device, few, options.quick)
    )
    if device.type == "cuda":
        tell(step_on_the_cpu=_steps_of(recipe, batch, cpu, 2))
    if not options.quick:
        tell(rehearsal=asdict(rehearse(recipe, here)))


def _recipe(options: Options) -> Any:
    """The demo model's, evaluated once at its end; small batches where it has to be quick."""
    from detr.training.recipe import Evaluation, load_recipe

    recipe = load_recipe("demo-r50-gpu")
    data = recipe.data.model_copy(update={"val_scenes": 8})
    if options.artwork is None:
        data = _frames_of_the_clip(Path(options.folder) / "clip")
    changes = {
        "evaluation": Evaluation(every_steps=10**9, images=2 if options.quick else 8),
        "checkpoint_every_steps": 10**9,
        "data": data,
        "batch_size": 2 if options.quick else recipe.batch_size,
    }
    return recipe.model_copy(update=changes)


def _frames_of_the_clip(folder: Path) -> Any:
    """A few frames of the demo clip with their boxes: data that is quickly made."""
    from detr.training.recipe import CocoData

    images = clip_frames(folder / "images", (360, 480))
    content = json.loads((CLIP / "annotations.json").read_text(encoding="utf-8"))
    for image in content["images"]:
        image["file_name"] = f"{image['id']:03d}.jpg"
    known = {int(path.stem) for path in images.iterdir()}
    content["images"] = [one for one in content["images"] if one["id"] in known]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in known]
    annotations = folder / "instances.json"
    annotations.write_text(json.dumps(content), encoding="utf-8")
    return CocoData(
        train_images=images,
        train_annotations=annotations,
        val_images=images,
        val_annotations=annotations,
        short_sides=(144,),
        longest_side=192,
        categories={row: one["name"] for row, one in enumerate(content["categories"])},
    )


def _trained(recipe: Any, surroundings: Any) -> dict[str, Any]:
    from detr.training.loop import train
    from detr.training.metrics import read_metrics

    train(recipe, surroundings)
    rows = read_metrics(surroundings.output / "metrics.csv")
    return {
        "steps": rows[-1].step,
        "seconds": rows[-1].seconds,
        "first_loss": rows[0].loss,
        "last_loss": rows[-1].loss,
        "ap": rows[-1].ap,
        "images_per_second": _rate([(row.images, row.seconds) for row in rows]),
    }


def _distillation_steps(
    batch_size: int, batch: Any, device: Any, count: int, quick: bool
) -> dict[str, float]:
    from detr.distillation.recipe import DistillationRecipe, run_recipe
    from detr.distillation.tasks import make_task
    from detr.distillation.teacher import load_teacher
    from detr.training.recipe import load_recipe_file

    distillation = load_recipe_file(DistillationRecipe, "detr.distillation", "demo-r50-r34")
    teacher = load_teacher(ROOT / "models" / "demo-r50")
    identity, parts = teacher.identity, teacher.parts
    student = run_recipe(distillation, "joint", identity, parts, names=teacher.names)
    changes: dict[str, Any] = {"batch_size": batch_size}
    if (
        quick and student.distillation is not None
    ):  # start from scratch: to solve for first weights takes a while on a CPU
        changes["distillation"] = student.distillation.model_copy(update={"fit_batches": 0})
    student = student.model_copy(update=changes)
    task = make_task(student, teacher, lambda _: [batch])
    return _steps_of(student, batch, device, count, task)


def _steps_of(
    recipe: Any, batch: Any, device: Any, count: int, task: Any = None
) -> dict[str, float]:
    """Do steps on one batch; the median milliseconds of one, and the losses of first and last."""
    from detr.training.loop import training_step
    from detr.training.optimisation import phase_at
    from detr.training.processes import peak_memory_bytes, prepare_device
    from detr.training.state import new_state
    from detr.training.task import DetectionTask

    prepare_device(device)
    task = task or DetectionTask()
    state = new_state(recipe, task.build, device)
    task.begin_phase(recipe, state.model, phase_at(recipe, 0), anew=True)
    seconds, losses = [], []
    for _ in range(count):
        started = time.perf_counter()
        found = training_step(recipe, state, state.model, batch.to(device), task)
        losses.append(float(found[0]))  # waits for the device
        seconds.append(time.perf_counter() - started)
    typical = statistics.median(seconds[count // 2 :])
    return {
        "milliseconds": round(typical * 1e3, 1),
        "images_per_second": round(recipe.batch_size / typical, 1),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "peak_memory_megabytes": round(peak_memory_bytes(device) / 1e6),
    }


def _rate(rows: list[tuple[int, float]]) -> float:
    """Images a second over the second half of a run, which has no start-up in it."""
    (images, seconds), (last_images, last_seconds) = rows[len(rows) // 2 - 1], rows[-1]
    if last_images == images:
        return last_images / max(last_seconds, 1e-9)
    return round((last_images - images) / (last_seconds - seconds), 1)


def _to_log(text: str) -> None:
    sys.stderr.write(f"{text}\n")
