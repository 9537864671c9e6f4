"""What is installed has no `scenes`: all of detr is there, but for training on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
IMPORT_ALL = """
import importlib, pkgutil
import detr
names = [found.name for found in pkgutil.walk_packages(detr.__path__, "detr.")]
for name in names:
    if name != "detr.training.scene_data" and not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the packages that detr needs, as an installation has them."""
    folder = tmp_path_factory.mktemp("installed")
    for package in ("common", "detr"):
        shutil.copytree(ROOT / package, folder / package)
    return folder


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_other_module_is_imported_without_scenes(installed):
    done = run(installed, "-c", IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


def test_a_recipe_of_scenes_says_in_one_sentence_what_is_missing(installed):
    done = run(installed, "-m", "detr.training.cli", "--recipe", "demo-r34-scratch")
    assert done.returncode == 1
    assert done.stderr.startswith("tandem train: this needs the package `scenes`")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (installed / "runs").exists()
