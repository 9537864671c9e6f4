"""Further versions of the toy bundle, for tests that change over. Runs on Python 3.8."""

import json
import shutil
from pathlib import Path

from common.bundle import Bundle, load_bundle
from tests.harness import TOY_BUNDLE


def version_of_toy(folder: Path, name: str, codec: str = "", of: Path = TOY_BUNDLE) -> Bundle:
    """A copy of the toy bundle whose categories begin with `name`; its halves compute the same.

    Args:
        folder: gets the copy, in a folder of this name.
        name: of the version.
        codec: its default, if it is to have another one.
        of: the toy bundle that is copied.
    """
    copy = folder / name
    shutil.copytree(str(of), str(copy))
    path = copy / "bundle.json"
    manifest = json.loads(path.read_text())
    manifest["name"] = name
    for category in manifest["categories"]:
        category["name"] = f"{name} {category['name']}"
    if codec:
        manifest["codec"]["default"] = codec
    path.write_text(json.dumps(manifest))
    return load_bundle(copy)
