"""Students compared with their teacher: parameters, backbone time and AP (thesis, table 3.1).

The curves show how the AP of each run grew with images and with time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.bundle import Bundle, FixedInput, StretchInput
from common.domain.errors import ConfigurationError
from common.domain.placement import Stage
from common.engines.registry import load_engine
from detr.coco.folder import CocoFolder
from detr.training.checkpoints import load_checkpoint
from detr.training.data import categories_of
from detr.training.evaluation import bundle_detector, evaluate
from detr.training.families import Labelling, trained_family
from detr.training.metrics import METRICS_NAME, read_metrics
from detr.training.state import recipe_of

WARMUP_FRAMES, TIMED_FRAMES = 10, 60


@dataclass(frozen=True)
class Row:
    """One model of the table.

    Attributes:
        name: as given to the table.
        parameters: number of both halves' parameters, without fixed norms, as the paper counts.
        backbone_milliseconds: median of one frame in ONNX Runtime.
        ap: COCO's AP over all pictures.
        ap50: the same at an overlap of 0.5.
    """

    name: str
    parameters: int
    backbone_milliseconds: float
    ap: float
    ap50: float


def compare(
    models: Sequence[tuple[str, Path]], folder: CocoFolder, threads: int, limit: int | None = None
) -> list[Row]:
    """Export and measure models.

    Args:
        models: name and checkpoint of each. They are timed one after the other, so the machine
            should be idle.
        folder: pictures to evaluate on.
        threads: number that ONNX Runtime uses.
        limit: how many of the pictures.

    Raises:
        ConfigurationError: there is no such checkpoint.
    """
    return [_measure(name, path, folder, threads, limit) for name, path in models]


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown, with each model's difference from the first, the teacher."""
    lines = [
        "| model | parameters | backbone, ms | AP | AP50 | AP against the teacher |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        loss = "" if row is rows[0] else f"{(row.ap / rows[0].ap - 1):+.1%}"
        lines.append(
            f"| {row.name} | {row.parameters / 1e6:.2f}M | {row.backbone_milliseconds:.1f} "
            f"| {row.ap:.3f} | {row.ap50:.3f} | {loss} |"
        )
    return "\n".join(lines)


def draw_runs(runs: Sequence[tuple[str, Path]], output: Path) -> None:
    """Draw the AP of each run over the images that it has seen, and over the minutes it took.

    Args:
        runs: name, and the folder of the run or of its record, whose `metrics.csv` is read.
        output: picture to write.

    Raises:
        ConfigurationError: a folder has no metrics with an AP.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), dpi=100, layout="constrained")
    over_images, over_time = figure.subplots(1, 2, sharey=True)
    for name, folder in runs:
        rows = [row for row in read_metrics(folder / METRICS_NAME) if row.ap is not None]
        if not rows:
            raise ConfigurationError(f"{folder}: no {METRICS_NAME} with an AP.")
        precisions = [row.ap for row in rows]
        over_images.plot([row.images / 1000 for row in rows], precisions, ".-", label=name)
        over_time.plot([row.seconds / 60 for row in rows], precisions, ".-")
    over_images.set(xlabel="thousand images", ylabel="AP on validation scenes", ylim=(0, None))
    over_time.set(xlabel="minutes of training")
    figure.legend(loc="outside upper center", ncols=min(4, len(runs)))
    figure.savefig(output)


def _measure(name: str, path: Path, folder: CocoFolder, threads: int, limit: int | None) -> Row:
    content = load_checkpoint(path)
    recipe = recipe_of(content, path)
    family = trained_family(recipe)
    model = family.plain_model(recipe, content["average"])
    labelling = Labelling(categories_of(recipe, folder), license="unreleased", origin=str(path))
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / recipe.name
        bundle = family.export(recipe, model, out, labelling, overwrite=False).bundle
        figures = evaluate(bundle_detector(bundle, threads), folder, limit)
        milliseconds = backbone_milliseconds(bundle, threads)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Row(name, parameters, milliseconds, figures["AP"], figures["AP50"])


def backbone_milliseconds(bundle: Bundle, threads: int) -> float:
    """Return the median time of the backbone half on one frame, after a few to warm up."""
    policy = bundle.manifest.input
    size = (
        (policy.height, policy.width)
        if isinstance(policy, FixedInput | StretchInput)
        else (800, 1066)
    )
    engine = load_engine("onnxruntime", bundle.onnx_path(Stage.BACKBONE), threads)
    pixels = np.random.default_rng(0).standard_normal((1, 3, *size), np.float32)
    seconds = []
    for _ in range(WARMUP_FRAMES + TIMED_FRAMES):
        started = time.perf_counter()
        engine.run({"pixels": pixels})
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds[WARMUP_FRAMES:]))
