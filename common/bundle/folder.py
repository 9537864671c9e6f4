"""Reads and writes the folder of a bundle."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Type, Union

from pydantic import BaseModel, ValidationError

from common.bundle.external_data import require_self_contained
from common.bundle.manifest import DetrManifest, FamilyManifest, Manifest
from common.bundle.reading import MOST_MANIFEST_BYTES, read_inside
from common.bundle.signature import require_signed
from common.domain.errors import ConfigurationError
from common.domain.placement import Stage
from common.files import replace_text
from common.validation import problems

MANIFEST_NAME = "bundle.json"
ONNX_NAMES = {Stage.BACKBONE: "backbone.onnx", Stage.TRANSFORMER: "transformer.onnx"}
LATENT_TABLES_NAME = "latent_tables.json"


class BottleneckPart(Enum):
    """A part of the bottleneck; each stands beside a half and is executed by that half's stage."""

    ENCODER = "bottleneck_encoder"
    DECODER = "bottleneck_decoder"


PART_OF = {
    Stage.BACKBONE: BottleneckPart.ENCODER,
    Stage.TRANSFORMER: BottleneckPart.DECODER,
}
"""The part of the bottleneck that each stage executes."""
Graph = Union[Stage, BottleneckPart]
"""What an engine executes: a half of the model, or a part of its bottleneck."""
_FORMATS: Dict[int, Type[Manifest]] = {1: DetrManifest, 2: FamilyManifest}


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Attributes:
        folder: where the bundle is.
        manifest: what `bundle.json` says.
        digest: the sha256 of `bundle.json`'s bytes. Since the manifest holds the digest of every
            file, two nodes with equal digests run halves of the same model.
    """

    folder: Path
    manifest: Manifest
    digest: str

    @property
    def graphs(self) -> Tuple[Graph, ...]:
        """What it holds for engines: both halves, and the parts of its bottleneck if it has one."""
        parts = BottleneckPart if self.manifest.bottleneck is not None else ()
        return (*Stage, *parts)

    def onnx_path(self, graph: Graph) -> Path:
        """The path of a half or a part, whose content is checked against the manifest.

        Raises:
            ConfigurationError: see `content`.
        """
        return self.checked_path(f"{graph.value}.onnx")

    def check_files(self) -> None:
        """Check every file that the manifest lists; raises as `content` does."""
        for name in self.manifest.files:
            self.content(name)

    def check_half(self, stage: Stage) -> None:
        """Check every file that one stage needs; raises as `content` does."""
        for graph in self.graphs:
            if graph in (stage, PART_OF[stage]):
                self.onnx_path(graph)
        if LATENT_TABLES_NAME in self.manifest.files:
            self.latent_tables()

    def latent_tables(self) -> bytes:
        """The entropy coder's tables as they are in the file; raises as `content` does."""
        return self.content(LATENT_TABLES_NAME)

    def checked_path(self, name: str) -> Path:
        """The path of one of the bundle's files, whose content is checked against the manifest.

        The file may change before it is opened by this path: whoever loads it compares what was
        read with `sha256` once more (`common.engines.reading`), or uses `content`.

        Raises:
            ConfigurationError: see `content`.
        """
        self.content(name)
        return self.folder / name

    def content(self, name: str) -> bytes:
        """One of the bundle's files, read once and checked against the manifest.

        Raises:
            ConfigurationError: the file is missing, no regular file, not listed, or not the one
                that was exported; or an ONNX file that keeps data in others.
        """
        try:
            expected = self.sha256(name)
            content = read_inside(self.folder, name)
            actual = hashlib.sha256(content).hexdigest()
            if actual != expected:
                raise ConfigurationError(
                    f"{name} has sha256 {actual}, {MANIFEST_NAME} says {expected}"
                )
            _require_complete(name, content)
        except ConfigurationError as error:
            raise ConfigurationError(f"bundle {self.folder}: {error}") from error
        return content

    def sha256(self, name: str) -> str:
        """The digest that the manifest has of a file.

        Raises:
            ConfigurationError: it has none.
        """
        if name not in self.manifest.files:
            raise ConfigurationError(f"{MANIFEST_NAME} does not list {name}")
        return self.manifest.files[name]


def load_bundle(folder: Union[str, Path], require_signature: Optional[Path] = None) -> Bundle:
    """Read a bundle's manifest; its files are checked when the bundle hands them out.

    Args:
        folder: of the bundle.
        require_signature: file of the public key by which the manifest has to be signed; None: it
            need not be.

    Raises:
        ConfigurationError: there is no bundle, its manifest is malformed, naming each bad key, or
            it is not signed by this key.
    """
    folder = Path(folder)
    try:
        content = read_inside(folder, MANIFEST_NAME, MOST_MANIFEST_BYTES)
    except ConfigurationError as error:
        raise ConfigurationError(f"no bundle at {folder}: {error}") from error
    if require_signature is not None:
        require_signed(folder, content, require_signature)
    return Bundle(folder, _manifest(folder, content), hashlib.sha256(content).hexdigest())


def write_bundle(folder: Union[str, Path], manifest: Manifest) -> Bundle:
    """Write `bundle.json` for the files that are already in `folder`, with their digests.

    A signature that is there signs the manifest before, so the bundle has to be signed anew.

    Args:
        folder: holds the files that `manifest.files` names.
        manifest: what to write. The digests in its `files` are replaced by those of the files.

    Raises:
        ConfigurationError: a file is missing, no regular file, or keeps data in another file.
    """
    folder = Path(folder)
    files = {name: _written_sha256(folder, name) for name in sorted(manifest.files)}
    complete = manifest.model_copy(update={"files": files})
    text = complete.model_dump_json(indent=2, exclude_none=True) + "\n"
    # In one step: a reader, even after a crash, finds either the old manifest or the new one.
    replace_text(folder / MANIFEST_NAME, text)
    return load_bundle(folder)


def _written_sha256(folder: Path, name: str) -> str:
    try:
        content = read_inside(folder, name)
        _require_complete(name, content)
    except ConfigurationError as error:
        raise ConfigurationError(f"bundle {folder}: {error}") from error
    return hashlib.sha256(content).hexdigest()


def _require_complete(name: str, content: bytes) -> None:
    if name.endswith(".onnx"):
        require_self_contained(content, name)


class _Format(BaseModel):
    """Which format a manifest is of, whatever else it says."""

    format_version: int = 1


def _manifest(folder: Path, content: bytes) -> Manifest:
    try:
        version = _Format.model_validate_json(content).format_version
        if version not in _FORMATS:
            raise ConfigurationError(
                f"bundle {folder} is of format {version}, and this release of Tandem reads the "
                f"formats {' and '.join(str(known) for known in _FORMATS)}: use a release that "
                "reads it"
            )
        manifest = _FORMATS[version].model_validate_json(content)
    except ValidationError as error:
        raise ConfigurationError(f"bundle {folder}: {problems(error, MANIFEST_NAME)}") from error
    _refuse_repeated_keys(folder, content)
    return manifest


def _refuse_repeated_keys(folder: Path, content: bytes) -> None:
    """Of two values of one key, another reader could take the one that we do not."""

    def unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise ConfigurationError(
                f"bundle {folder}: {MANIFEST_NAME} has the key {twice!r} more than once"
            )
        return found

    json.loads(content.decode("utf-8"), object_pairs_hook=unique)


def sha256_of(path: Path) -> str:
    """Lower-case hexadecimal sha256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()
