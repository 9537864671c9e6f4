"""What is sent: pictures, each for itself, or clips."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from common.domain.errors import ConfigurationError
from detr.coco.folder import open_coco
from detr.coco.instances import Say
from experiments.rate_accuracy.video import pixels_of
from scenes.camera import sensor_noise
from scenes.clip_folder import ANNOTATIONS_NAME, CLIP_NAME
from tandem.evaluation.picture_set import Picture, PictureSet

# Ids of the frames of different clips must differ.
_IDS_A_CLIP = 1_000_000
_NOISE_SEED = 20


@dataclass(frozen=True)
class Clip:
    """A clip.

    Attributes:
        path: of the video.
        number: of the clip among those of the material, from 0.
        image_ids: of its frames, in order.
        noise: grey levels (standard deviation) of Gaussian noise that is added to every frame.
    """

    path: Path
    number: int
    image_ids: tuple[int, ...]
    noise: float

    def frames(self) -> list[NDArray[np.uint8]]:
        """Decode it: RGB uint8, [H,W,3] each.

        Raises:
            ConfigurationError: it cannot be read, or has another number of frames than the
                annotations say.
        """
        try:
            with av.open(str(self.path)) as container:
                decoded = [pixels_of(one) for one in container.decode(video=0)]
        except (OSError, av.FFmpegError) as error:
            raise ConfigurationError(f"{self.path} cannot be read as video: {error}") from error
        if len(decoded) != len(self.image_ids):
            raise ConfigurationError(
                f"{self.path} has {len(decoded)} frames, but its annotations have "
                f"{len(self.image_ids)} images"
            )
        if not self.noise:
            return decoded
        rng = np.random.default_rng([_NOISE_SEED, self.number])
        return [sensor_noise(rng, pixels, self.noise) for pixels in decoded]


@dataclass(frozen=True)
class Material:
    """A set and its truth, to be measured with every setting.

    Attributes:
        name: for folders.
        title: for people.
        pictures: the truth. The files of a clip's frames do not exist.
        clips: the frames' source; none: the files of the pictures, each a stream of its own.
    """

    name: str
    title: str
    pictures: PictureSet
    clips: tuple[Clip, ...] = ()

    @cached_property
    def sizes(self) -> dict[int, tuple[int, int]]:
        """Height and width of each picture, by its id."""
        images = self.pictures.instances["images"]
        return {one["id"]: (one["height"], one["width"]) for one in images}

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same when a stopped run goes on."""
        noise = {clip.noise for clip in self.clips}
        return {"set": self.pictures.digest, "noise": max(noise, default=0.0)}


def find_clips(folder: Path) -> list[Path]:
    """Folders of clips: this one, or those in it, by name.

    Raises:
        ConfigurationError: there is none.
    """
    found = [one for one in (folder, *sorted(folder.glob("*"))) if (one / CLIP_NAME).is_file()]
    if not found:
        raise ConfigurationError(f"there is no {CLIP_NAME} in {folder} or in a folder of it")
    return found


def open_clips(
    folder: Path, *, noise: float, model: Mapping[int, str], say: Say = lambda _: None
) -> Material:
    """Read the annotations of the clips in a folder; see `find_clips`.

    Args:
        folder: of `clip.mp4` and `annotations.json`, or of folders with these.
        noise: of the sensor, in grey levels, to be added.
        model: ids and names of the categories that the model knows.
        say: is told what was put right in annotations.

    Raises:
        ConfigurationError: there are no clips, annotations are wrong, or clips differ in their
            categories.
    """
    clips: list[Clip] = []
    merged: dict[str, Any] = {"images": [], "annotations": []}
    own_ids: dict[int, int] = {}
    digest = hashlib.sha256()
    for number, one in enumerate(find_clips(folder)):
        coco = open_coco(one, one / ANNOTATIONS_NAME, model=model, say=say)
        first = number * _IDS_A_CLIP
        if (
            merged.setdefault("categories", coco.instances["categories"])
            != (coco.instances["categories"])
        ):
            raise ConfigurationError(f"the clips of {folder} differ in their categories")
        own_ids = {of_model: own for own, of_model in coco.categories.items()}
        merged["images"] += _moved(coco.pictures, "id", first)
        merged["annotations"] += _moved(
            _moved(coco.instances["annotations"], "image_id", first), "id", first
        )
        ids = tuple(picture["id"] + first for picture in coco.pictures)
        clips.append(Clip(one / CLIP_NAME, number, ids, noise))
        for name in (CLIP_NAME, ANNOTATIONS_NAME):
            digest.update(hashlib.sha256((one / name).read_bytes()).digest())
    pictures = tuple(
        Picture(image_id, clip.path.with_name(f"frame {position}"))
        for clip in clips
        for position, image_id in enumerate(clip.image_ids)
    )
    name = folder.resolve().name
    counted = "" if len(clips) == 1 else f"{len(clips)} clips, "
    title = f"{name}: {counted}{len(pictures)} frames"
    if noise:
        name, title = f"{name}-noise{noise:g}", f"{title}, sensor noise of {noise:g} levels"
    return Material(
        name, title, PictureSet(merged, pictures, digest.hexdigest(), own_ids), tuple(clips)
    )


def _moved(entries: Sequence[dict[str, Any]], key: str, by: int) -> list[dict[str, Any]]:
    return [{**entry, key: entry[key] + by} for entry in entries]
