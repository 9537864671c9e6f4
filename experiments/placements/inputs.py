"""What an experiment takes: the frames that are streamed, as files, and the models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2

from benchmarks.hosts import ROOT
from common.bundle import Bundle, FixedInput, load_bundle
from common.domain.errors import ConfigurationError
from detr.coco.folder import check_pictures
from detr.coco.instances import read_pictures
from experiments.placements.config import ClipSource, CocoSource, Config, ModelPlan
from tandem.pictures import decode_picture
from tandem.shipped import shipped_clip
from tandem.sources import open_source

_JPEG_QUALITY = 90
_SENT_AS_THEY_ARE = {".jpg", ".jpeg", ".png"}
DEFAULT_CACHE = ROOT / "cache" / "experiments"


def frame_files(config: Config, cache: Path) -> list[Path]:
    """The files to send, in order.

    Args:
        config: names the source.
        cache: folder where the clip's frames are kept once they were cut.

    Raises:
        ConfigurationError: there is none, or one that is named is missing.
    """
    source = config.source
    if isinstance(source, ClipSource):
        return _clip_frames(config.input, cache)
    if isinstance(source, CocoSource):
        return coco_files(source)
    if not source.folder.is_dir():
        raise ConfigurationError(f"{source.folder} is no folder")
    files = sorted(
        path for path in source.folder.iterdir() if path.suffix.lower() in _SENT_AS_THEY_ARE
    )
    if not files:
        raise ConfigurationError(f"the folder {source.folder} holds no pictures (JPEG or PNG)")
    return files


def coco_files(source: CocoSource) -> list[Path]:
    """The first images by id, as COCO's own tools order them.

    Raises:
        CallerError: see `read_pictures` and `check_pictures`.
    """
    chosen = read_pictures(source.annotations)[: source.limit]
    check_pictures(source.images, chosen)
    return [source.images / picture["file_name"] for picture in chosen]


def _clip_frames(size: FixedInput, cache: Path) -> list[Path]:
    """Every frame of the shipped clip, scaled to `size`; written the first time."""
    folder = cache / f"clip-{size.height}x{size.width}"
    if not folder.is_dir():
        unfinished = folder.with_suffix(".new")
        unfinished.mkdir(parents=True, exist_ok=True)
        with closing(open_source(str(shipped_clip()))) as clip:
            for index, frame in enumerate(clip):
                scaled = cv2.resize(decode_picture(frame.image), (size.width, size.height))
                path = unfinished / f"{index:06}.jpg"
                cv2.imwrite(str(path), scaled, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        unfinished.rename(folder)
    return sorted(folder.glob("*.jpg"))


@dataclass(frozen=True)
class Model:
    """A model of the experiment.

    Attributes:
        name: as the configuration calls it.
        bundle: None where only the machines that run it have it.
    """

    name: str
    bundle: Bundle | None


def prepare_models(
    config: Config, cache: Path, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Model]:
    """Every model by its name; those with an architecture are exported below `cache` once.

    Raises:
        ConfigurationError: a bundle is missing or malformed.
    """
    return {
        plan.name: Model(plan.name, _bundle(plan, config, cache, progress))
        for plan in config.models
    }


def _bundle(
    plan: ModelPlan, config: Config, cache: Path, progress: Callable[[str], None]
) -> Bundle | None:
    if plan.bundle is not None:
        return load_bundle(plan.bundle)
    if plan.architecture is None:
        return None
    size = config.input
    # Another architecture of the same name is another model.
    told = hashlib.sha256(plan.architecture.model_dump_json().encode()).hexdigest()[:8]
    out = cache / f"{plan.name}-{size.height}x{size.width}-{told}".lower()
    if not (out / "bundle.json").is_file():
        # torch: only whoever exports needs it.
        from benchmarks.workload import export_random

        progress(f"exporting {plan.name} with random weights")
        name = f"{plan.name} {size.height}x{size.width}"
        export_random(name, plan.architecture, size, out)
    return load_bundle(out)
