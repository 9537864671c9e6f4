"""A small copy of the cache, to carry to a machine without a network.

The artwork packages hold thousands of icons; scenes are made of some hundred. What is composed
from the copy is the same to the bit.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from scenes.artwork import wanted_icons
from scenes.fetch import artwork_file, photo_file, require_cache
from scenes.sources import ARTWORK_SETS, PHOTOS


def pack(cache: Path, folder: Path) -> int:
    """Copy into `folder`, which then serves as a cache, what scenes of all splits are made of.

    Returns:
        The size of the copy, in bytes.

    Raises:
        ConfigurationError: artwork or photographs were not fetched.
    """
    require_cache(cache)
    written = [_pack_artwork(cache, folder, artwork.name) for artwork in ARTWORK_SETS]
    for photo in PHOTOS:
        target = photo_file(folder, photo.file)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo_file(cache, photo.file), target)
        written.append(target)
    return sum(path.stat().st_size for path in written)


def _pack_artwork(cache: Path, folder: Path, name: str) -> Path:
    collection = json.loads(artwork_file(cache, name).read_text(encoding="utf-8"))
    wanted = wanted_icons(name)
    icons = {icon: body for icon, body in collection["icons"].items() if icon in wanted}
    sizes = {
        key: collection[key] for key in ("left", "top", "width", "height") if key in collection
    }
    target = artwork_file(folder, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({**sizes, "icons": icons}, separators=(",", ":"))
    target.write_text(content, encoding="utf-8")
    return target
