"""Where artwork and photographs come from: packages, pinned versions, digests, licences."""

from __future__ import annotations

from typing import Literal, NamedTuple

# Which scenes may use a set or a photograph.
SceneSplit = Literal["train", "val", "unseen"]


class ArtworkSet(NamedTuple):
    """One icon set, published as an npm package of SVG bodies.

    Attributes:
        name: the set's name; the npm package is `@iconify-json/{name}`.
        version: the package's version.
        sha256: of the package's tarball.
        license: SPDX identifier that the package states.
        credit: who made the artwork.
        trained_on: false for the set that only the unseen-artwork scenes use.
    """

    name: str
    version: str
    sha256: str
    license: str
    credit: str
    trained_on: bool


class PhotoWheel(NamedTuple):
    """A Python wheel that carries photographs.

    Attributes:
        distribution: its name on the Python package index.
        version: the wheel's version.
        sha256: of the wheel for CPython 3.11 on x86-64 Linux.
        folder: where the pictures are inside the wheel.
    """

    distribution: str
    version: str
    sha256: str
    folder: str


class Photo(NamedTuple):
    """A background photograph.

    Attributes:
        file: its name inside the wheel's folder.
        distribution: the wheel that it comes from.
        license: as the wheel states it.
        split: `train`, or `val` for those that no training scene shows.
    """

    file: str
    distribution: str
    license: str
    split: SceneSplit


ARTWORK_SETS: tuple[ArtworkSet, ...] = (
    ArtworkSet(
        "noto",
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        "Apache-2.0",
        "Google Inc, github.com/googlefonts/noto-emoji",
        True,
    ),
    ArtworkSet(
        "noto-v1",
        "1.2.5",
        "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
        "Apache-2.0",
        "Google Inc, github.com/googlefonts/noto-emoji",
        True,
    ),
    ArtworkSet(
        "fluent-emoji",
        "1.2.7",
        "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
        "MIT",
        "Microsoft Corporation, github.com/microsoft/fluentui-emoji",
        True,
    ),
    ArtworkSet(
        "fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        "MIT",
        "Microsoft Corporation, github.com/microsoft/fluentui-emoji",
        True,
    ),
    ArtworkSet(
        "fxemoji",
        "1.2.2",
        "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
        "Apache-2.0",
        "Mozilla, github.com/mozilla/fxemoji",
        True,
    ),
    ArtworkSet(
        "emojione",
        "1.2.3",
        "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
        "CC-BY-4.0",
        "EmojiOne, github.com/EmojiTwo/emojitwo",
        False,
    ),
)

PHOTO_WHEELS: tuple[PhotoWheel, ...] = (
    PhotoWheel(
        "scikit-image",
        "0.25.2",
        "24cc986e1f4187a12aa319f777b36008764e856e5013666a4a83f8df083c2641",
        "skimage/data",
    ),
    PhotoWheel(
        "scikit-learn",
        "1.7.2",
        "89877e19a80c7b11a2891a27c21c4894fb18e2c2e077815bcade10d34287b20d",
        "sklearn/datasets/images",
    ),
)

# Pictures that show people or animals, or that state no licence, are left out.
PHOTOS: tuple[Photo, ...] = (
    Photo("coffee.png", "scikit-image", "CC0-1.0", "train"),
    Photo("gravel.png", "scikit-image", "CC0-1.0", "train"),
    Photo("retina.jpg", "scikit-image", "CC0-1.0", "train"),
    Photo("hubble_deep_field.jpg", "scikit-image", "public domain", "train"),
    Photo("coins.png", "scikit-image", "no known copyright restrictions", "train"),
    Photo("ihc.png", "scikit-image", "no known copyright restrictions", "train"),
    Photo("text.png", "scikit-image", "public domain", "train"),
    Photo("china.jpg", "scikit-learn", "CC-BY-2.0", "train"),
    Photo("flower.jpg", "scikit-learn", "CC-BY-2.0", "train"),
    Photo("rocket.jpg", "scikit-image", "public domain", "val"),
    Photo("grass.png", "scikit-image", "CC0-1.0", "val"),
    Photo("brick.png", "scikit-image", "CC0-1.0", "val"),
)
