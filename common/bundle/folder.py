"""Reads and writes the folder of a bundle."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Tuple, Union

from pydantic import ValidationError

from common.bundle.manifest import Manifest
from common.domain.errors import ConfigurationError
from common.domain.placement import Stage
from common.files import replace_text

MANIFEST_NAME = "bundle.json"
ONNX_NAMES = {Stage.BACKBONE: "backbone.onnx", Stage.TRANSFORMER: "transformer.onnx"}
BOTTLENECK_NAMES = {
    Stage.BACKBONE: "bottleneck_encoder.onnx",
    Stage.TRANSFORMER: "bottleneck_decoder.onnx",
}
"""Each half's part of the bottleneck."""
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
            ConfigurationError: the file is missing, not listed, or not the one that was exported.
        """
        return self._checked(f"{graph.value}.onnx")

    def check_files(self) -> None:
        """Check all that engines and codecs take from it; raises as `onnx_path` does."""
        for graph in self.graphs:
            self.onnx_path(graph)
        if self.manifest.bottleneck is not None:
            self.latent_tables_path()

    def latent_tables_path(self) -> Path:
        """The path of the entropy coder's tables; checked, and raises, as `onnx_path` does."""
        return self._checked(LATENT_TABLES_NAME)

    def _checked(self, name: str) -> Path:
        path = self.folder / name
        expected = self.manifest.files.get(name)
        if expected is None:
            raise ConfigurationError(f"bundle {self.folder}: {MANIFEST_NAME} does not list {name}")
        if not path.is_file():
            raise ConfigurationError(f"bundle {self.folder}: {name} is missing")
        actual = sha256_of(path)
        if actual != expected:
            raise ConfigurationError(
                f"bundle {self.folder}: {name} has sha256 {actual}, {MANIFEST_NAME} says {expected}"
            )
        return path


def load_bundle(folder: Union[str, Path]) -> Bundle:
    """Read a bundle's manifest; its halves are checked when `Bundle.onnx_path` hands them out.

    Raises:
        ConfigurationError: there is no bundle, or its manifest is malformed, naming each bad key.
    """
    folder = Path(folder)
    try:
        text = (folder / MANIFEST_NAME).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"no bundle at {folder}: cannot read {MANIFEST_NAME} ({error.strerror})"
        ) from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            "{}: {}".format(
                ".".join(str(part) for part in item["loc"]) or MANIFEST_NAME, item["msg"]
            )
            for item in error.errors()
        )
        raise ConfigurationError(f"bundle {folder}: {problems}") from error
    return Bundle(folder=folder, manifest=manifest, digest=hashlib.sha256(text).hexdigest())


def write_bundle(folder: Union[str, Path], manifest: Manifest) -> Bundle:
    """Write `bundle.json` for the files that are already in `folder`, with their digests.

    Args:
        folder: holds the files that `manifest.files` names.
        manifest: what to write. The digests in its `files` are replaced by those of the files.
    """
    folder = Path(folder)
    files = {name: sha256_of(folder / name) for name in sorted(manifest.files)}
    complete = manifest.model_copy(update={"files": files})
    text = complete.model_dump_json(indent=2, exclude_none=True) + "\n"
    # In one step: a reader, even after a crash, finds either the old manifest or the new one.
    replace_text(folder / MANIFEST_NAME, text)
    return load_bundle(folder)


def sha256_of(path: Path) -> str:
    """Lower-case hexadecimal sha256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()
