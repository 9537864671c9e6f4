"""Compiled plans on disk, which are found again only for exactly what they were compiled for."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from common.engines.base import CompileOptions
from common.files import replace_bytes

# This is part of every plan's key. Raise it when the way in which networks are built changes.
_BUILD_REVISION = 1


@dataclass(frozen=True)
class PlanTarget:
    """The software and hardware that a plan or a timing cache was made for.

    Attributes:
        tensorrt: the release of TensorRT.
        gpu: the name of the GPU.
        compute_capability: the GPU's compute capability, such as "6.2".
    """

    tensorrt: str
    gpu: str
    compute_capability: str

    @property
    def slug(self) -> str:
        """All three in one text that fits into a file's name."""
        text = f"{self.tensorrt}-{self.gpu}-{self.compute_capability}"
        return re.sub(r"[^A-Za-z0-9.]+", "-", text)


@dataclass(frozen=True)
class PlanKey:
    """Everything that a plan depends on.

    Attributes:
        half: the name of the ONNX file without its suffix.
        onnx_sha256: the sha256 of the ONNX file.
        target: where the plan runs.
        options: what the plan is compiled for.
    """

    half: str
    onnx_sha256: str
    target: PlanTarget
    options: CompileOptions

    @property
    def facts(self) -> Dict[str, Any]:
        """What the key is made of, in a form for JSON."""
        return {
            "half": self.half,
            "onnx_sha256": self.onnx_sha256,
            **asdict(self.target),
            "precision": self.options.precision.value,
            "profile": {name: asdict(shape) for name, shape in self.options.shapes.items()},
            "build_revision": _BUILD_REVISION,
        }

    @property
    def file_name(self) -> str:
        """The name of the plan's file in the cache."""
        text = json.dumps(self.facts, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"{self.half}-{self.options.precision.value}-{digest[:16]}.plan"


class PlanCache:
    """A folder of plans and timing caches.

    Beside every file lies a JSON file with its sha256 and what it was made for. TensorRT is never
    given bytes that do not have this sha256, because it may crash on them.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which need not exist."""
        self._folder = folder

    def plan_path(self, key: PlanKey) -> Path:
        """The path of the plan of this key, whether or not it exists."""
        return self._folder / key.file_name

    def plan(self, key: PlanKey) -> Optional[bytes]:
        """Read the plan of this key; None if there is none, or it is not as it was written."""
        return _read_checked(self.plan_path(key))

    def keep_plan(self, key: PlanKey, plan: bytes) -> None:
        """Write a plan in one step: a reader finds either the old one or the new one.

        Raises:
            OSError: the folder cannot be written.
        """
        _write_checked(self.plan_path(key), plan, key.facts)

    def timings(self, target: PlanTarget) -> bytes:
        """Read what earlier builds on this target measured; empty if nothing is known."""
        return _read_checked(self._timings_path(target)) or b""

    def keep_timings(self, target: PlanTarget, timings: bytes) -> None:
        """Write what builds have measured.

        Raises:
            OSError: the folder cannot be written.
        """
        _write_checked(self._timings_path(target), timings, asdict(target))

    def _timings_path(self, target: PlanTarget) -> Path:
        return self._folder / f"timings-{target.slug}.cache"


def _facts_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _read_checked(path: Path) -> Optional[bytes]:
    try:
        content = path.read_bytes()
        facts = json.loads(_facts_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # A file that is missing, unreadable or half-written is made again.
        return None
    expected = facts.get("sha256") if isinstance(facts, dict) else None
    return content if hashlib.sha256(content).hexdigest() == expected else None


def _write_checked(path: Path, content: bytes, facts: Mapping[str, Any]) -> None:
    """Write a file, then its facts. In between, the old facts do not fit the new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_bytes(path, content)
    complete = {**facts, "sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps(complete, indent=2, sort_keys=True) + "\n"
    replace_bytes(_facts_path(path), text.encode())
