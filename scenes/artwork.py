"""Icons as premultiplied RGBA pictures in several sizes, rasterised from SVG once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.domain.errors import ConfigurationError
from scenes.categories import CATEGORIES, category_icons, distractor_icons, wanted_icons
from scenes.fetch import artwork_file
from scenes.sources import ARTWORK_SETS

RASTER_SIDE = 256  # pixels; as large as an object gets in a 480 x 360 frame
SMALLEST_MIP_SIDE = 16

# An icon's pixel belongs to its box where alpha exceeds this, so that soft shadows do not.
ALPHA_THRESHOLD = 50


@dataclass(frozen=True)
class Icon:
    """One picture of an object.

    Attributes:
        artwork_set: which set it belongs to.
        name: its name there.
        mips: premultiplied RGBA, uint8, cropped to the alpha; each half the size of the one before.
    """

    artwork_set: str
    name: str
    mips: tuple[NDArray[np.uint8], ...]

    def at_least(self, long_side: float) -> NDArray[np.uint8]:
        """Return the smallest picture whose long side is at least `long_side` pixels."""
        fitting = [mip for mip in self.mips if max(mip.shape[:2]) >= long_side]
        return fitting[-1] if fitting else self.mips[0]


@dataclass(frozen=True)
class Artwork:
    """The icons of each category, in the order of `CATEGORIES`, and icons of no category."""

    icons: tuple[tuple[Icon, ...], ...]
    distractors: tuple[Icon, ...] = ()

    def __post_init__(self) -> None:
        """Check that every category can be drawn."""
        if len(self.icons) != len(CATEGORIES) or not all(self.icons):
            raise ConfigurationError("every one of the scene categories needs an icon.")


def load_artwork(cache: Path, sets: Sequence[str]) -> Artwork:
    """Load the icons of `sets`, rasterising those that are not in the cache yet.

    Raises:
        ConfigurationError: a set was not fetched, or lacks a whole category.
    """
    by_category: dict[str, list[Icon]] = {category.name: [] for category in CATEGORIES}
    distractors: list[Icon] = []
    for artwork_set in sets:
        pictures = _rasterised(cache, artwork_set)
        for category, names in category_icons(artwork_set).items():
            by_category[category] += _icons(artwork_set, names, pictures)
        distractors += _icons(artwork_set, distractor_icons(artwork_set), pictures)
    return Artwork(
        icons=tuple(tuple(by_category[category.name]) for category in CATEGORIES),
        distractors=tuple(distractors),
    )


def training_sets() -> tuple[str, ...]:
    """Return the names of the sets that training scenes use."""
    return tuple(artwork.name for artwork in ARTWORK_SETS if artwork.trained_on)


def unseen_sets() -> tuple[str, ...]:
    """Return the names of the sets that no training scene uses."""
    return tuple(artwork.name for artwork in ARTWORK_SETS if not artwork.trained_on)


def icon_from_rgba(artwork_set: str, name: str, rgba: NDArray[np.uint8]) -> Icon:
    """Make an icon of a straight-alpha RGBA picture (H x W x 4).

    Raises:
        ConfigurationError: nothing of the picture is opaque.
    """
    rows, columns = np.nonzero(rgba[:, :, 3] > ALPHA_THRESHOLD)
    if rows.size == 0:
        raise ConfigurationError(f"icon {artwork_set}/{name} is empty.")
    cropped = rgba[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    # Shrinking straight alpha would bleed the colour of invisible pixels into the edge.
    alpha = cropped[:, :, 3:].astype(np.uint16)
    premultiplied = np.concatenate([(cropped[:, :, :3] * alpha + 127) // 255, alpha], axis=2)
    return Icon(artwork_set, name, icon_sizes(premultiplied.astype(np.uint8)))


def icon_sizes(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """Return a premultiplied RGBA picture and its halvings, as an `Icon` holds them."""
    return tuple(_mips(picture))


def _mips(picture: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    yield picture
    while max(picture.shape[:2]) >= 2 * SMALLEST_MIP_SIDE:
        height, width = picture.shape[:2]
        size = (max(1, width // 2), max(1, height // 2))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        yield picture


def _icons(
    artwork_set: str, names: Sequence[str], pictures: dict[str, NDArray[np.uint8]]
) -> list[Icon]:
    return [icon_from_rgba(artwork_set, name, pictures[name]) for name in names if name in pictures]


def _rasterised(cache: Path, artwork_set: str) -> dict[str, NDArray[np.uint8]]:
    """Return straight-alpha RGBA pictures of the wanted icons of one set, by name."""
    source = artwork_file(cache, artwork_set)
    if not source.exists():
        raise ConfigurationError(f"{source} is missing: fetch it with `python -m scenes fetch`.")
    wanted = wanted_icons(artwork_set)
    stored = cache / "raster" / f"{artwork_set}-{RASTER_SIDE}.npz"
    if stored.exists():
        with np.load(stored) as archive:
            if set(archive["wanted"].tolist()) == wanted:
                return {name: archive[f"icon/{name}"] for name in archive["names"].tolist()}
    collection = json.loads(source.read_text(encoding="utf-8"))
    found = sorted(name for name in wanted if name in collection["icons"])
    # Some icons take a tenth of a second. In the workers OpenCV's own threads would hang, since
    # those of this process do not exist there.
    with ProcessPoolExecutor(initializer=cv2.setNumThreads, initargs=(0,)) as pool:
        drawn = pool.map(_rasterise, [_svg(collection, name) for name in found], chunksize=4)
        pictures = dict(zip(found, drawn, strict=True))
    stored.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"icon/{name}": picture for name, picture in pictures.items()}
    partial = stored.with_name(f"{stored.stem}.part.npz")
    np.savez(partial, names=np.array(found), wanted=np.array(sorted(wanted)), **arrays)
    partial.replace(stored)
    return pictures


def _svg(collection: dict[str, Any], name: str) -> str:
    icon = collection["icons"][name]
    box = {
        key: icon.get(key, collection.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    }
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box["left"]} {box["top"]} {box["width"]} {box["height"]}" '
        f'width="{box["width"]}" height="{box["height"]}">{icon["body"]}</svg>'
    )


def _rasterise(svg: str) -> NDArray[np.uint8]:
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=RASTER_SIDE, skip_system_fonts=True))
    bgra = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if bgra is None:
        raise ConfigurationError("an icon could not be rasterised.")
    return np.asarray(cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA), np.uint8)
