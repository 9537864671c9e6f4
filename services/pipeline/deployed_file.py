"""Keeps which bundles were deployed, so that a stage that is restarted serves them again."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, Optional

from common.domain.errors import ConfigurationError
from common.domain.models import is_digest
from common.files import replace_text

_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class DeployedBundle:
    """What was deployed for one model.

    Attributes:
        bundle: name of its folder in the stage's folder of bundles.
        digest: of the bundle.
        instead_of: digest of the bundle that the settings name, as it was then. Once they name
            another one, that is the newer word, and counts.
    """

    bundle: str
    digest: str
    instead_of: str


class DeployedFile:
    """A small file of JSON: the bundles that were deployed, by the names of their models."""

    def __init__(self, path: Optional[Path]) -> None:
        """Keep them in the file of this path; None: nothing can be deployed, nor kept."""
        self._path = path

    def read(self) -> Dict[str, DeployedBundle]:
        """What was deployed; nothing if there is no such file.

        Raises:
            ConfigurationError: it cannot be read, or is none of these files.
        """
        if self._path is None:
            return {}
        try:
            with self._path.open(encoding="utf-8") as file:
                told = json.loads(file.read(_MOST_BYTES))
            found = {name: DeployedBundle(**each) for name, each in told.items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigurationError(f"cannot read {self._path}: {error.strerror}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"{self._path} does not say what was deployed") from error
        for each in found.values():
            if not is_digest(str(each.digest)) or not isinstance(each.bundle, str):
                raise ConfigurationError(f"{self._path} does not say what was deployed")
        return found

    def write(self, model: str, deployed: Optional[DeployedBundle]) -> str:
        """Keep what was deployed for a model, or with None that nothing is.

        Returns:
            Why it could not be kept, such as `/bundles cannot be written`; empty if it was.
        """
        if self._path is None:
            return ""
        try:
            kept = self.read()
        except ConfigurationError:
            kept = {}
        if kept.pop(model, None) is None and deployed is None:
            return ""
        if deployed is not None:
            kept[model] = deployed
        try:
            if kept:
                told = {name: asdict(each) for name, each in kept.items()}
                replace_text(self._path, json.dumps(told, indent=2) + "\n")
            else:
                os.unlink(str(self._path))
        except OSError as error:
            return f"{self._path} cannot be written: {error.strerror}"
        return ""
