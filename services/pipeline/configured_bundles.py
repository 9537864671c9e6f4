"""Which bundles a stage serves when it starts: those of its settings, or those deployed since."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional
from urllib.parse import quote

import structlog

from common.bundle import Bundle, load_bundle
from common.bundle.reading import is_plain_name
from common.domain.errors import ConfigurationError, InvalidInputError, PreconditionError
from common.domain.models import DEFAULT_MODEL, BundleSource
from common.domain.placement import Stage
from services.pipeline.deployed_file import DeployedBundle, DeployedFile
from services.pipeline.settings import StageSettings

log = structlog.get_logger()


@dataclass(frozen=True)
class StartingBundle:
    """What a model is served with at the start.

    Attributes:
        bundle: which one.
        source: who has said so.
        note: what a person should know of it; otherwise empty.
    """

    bundle: Bundle
    source: BundleSource
    note: str = ""


class ConfiguredBundles:
    """Finds the bundles that settings, deployments and the deployed file name; loads no engine.

    Attributes:
        deployed: the file that keeps what was deployed.
    """

    def __init__(self, stage: Stage, settings: StageSettings) -> None:
        """Read nothing yet."""
        self._stage = stage
        self._settings = settings
        self._folders = {DEFAULT_MODEL: settings.bundle, **settings.models}
        # As they were read last.
        self._digests: Dict[str, str] = {}
        self.deployed = DeployedFile(_deployed_path(stage, settings))

    def starting(self) -> Dict[str, StartingBundle]:
        """What each model is served with at the start, by its name.

        Raises:
            ConfigurationError: a bundle that the settings name is missing, damaged or not signed.
        """
        bundles = self.read()
        try:
            deployed = self.deployed.read()
        except ConfigurationError as error:
            log.error("what was deployed is not served", reason=str(error))
            note = f"what was deployed is not known: {error}"
            return {
                name: StartingBundle(bundle, BundleSource.SETTINGS, note)
                for name, bundle in bundles.items()
            }
        return {
            name: self._starting(bundle, deployed.get(name)) for name, bundle in bundles.items()
        }

    def read(self) -> Dict[str, Bundle]:
        """The bundles that the settings name, as they are now, by the names of their models.

        Raises:
            ConfigurationError: one is missing, damaged or not signed as it has to be.
        """
        bundles = {name: self._load(folder) for name, folder in self._folders.items()}
        self._digests = {name: bundle.digest for name, bundle in bundles.items()}
        return bundles

    def find(self, name: str, digest: str) -> Bundle:
        """A bundle of the folder of bundles.

        Raises:
            InvalidInputError: that is no name of a folder.
            PreconditionError: there is no folder of bundles, or no such bundle; it is damaged, not
                signed as it has to be, or another one than the digest says.
        """
        if not is_plain_name(name):
            raise InvalidInputError(f"{name!r} is no name of a folder")
        if self._settings.bundles is None:
            raise PreconditionError("its setting `bundles`, a folder of bundles, is not set")
        try:
            bundle = self._load(self._settings.bundles / name)
        except ConfigurationError as error:
            raise PreconditionError(str(error)) from error
        if bundle.digest != digest:
            raise PreconditionError(
                f"bundle {bundle.folder} has the digest {bundle.digest}, and not {digest}: it is "
                "another one, or not the same version"
            )
        return bundle

    def keep_deployed(self, model: str, name: str, digest: str) -> str:
        """Have a restart serve a deployed bundle again.

        Returns:
            What a restart would serve instead, in a sentence; empty if it is the deployed one.
        """
        configured = self._digests.get(model, "")
        is_configured = digest == configured
        kept = None if is_configured else DeployedBundle(name, digest, configured)
        fault = self.deployed.write(model, kept)
        if not fault:
            return ""
        return f"a restart would serve what was served before this deployment: {fault}"

    def _starting(self, bundle: Bundle, deployed: Optional[DeployedBundle]) -> StartingBundle:
        if deployed is None or deployed.instead_of != bundle.digest:
            # The settings name another bundle than then: that is the newer word.
            return StartingBundle(bundle, BundleSource.SETTINGS)
        try:
            found = self.find(deployed.bundle, deployed.digest)
            found.check_half(self._stage)
        except (InvalidInputError, PreconditionError, ConfigurationError) as error:
            log.error("what was deployed is not served", reason=str(error))
            note = f"{deployed.bundle}, which was deployed, cannot be served any more: {error}"
            return StartingBundle(bundle, BundleSource.SETTINGS, note)
        return StartingBundle(found, BundleSource.DEPLOYED)

    def _load(self, folder: Path) -> Bundle:
        # A link is followed once: it may lead elsewhere before all files are read.
        return load_bundle(os.path.realpath(str(folder)), self._settings.require_signature)


def _deployed_path(stage: Stage, settings: StageSettings) -> Optional[Path]:
    if settings.deployed is not None or settings.bundles is None:
        return settings.deployed
    # One folder may serve several stages, and several nodes.
    return settings.bundles / f".deployed-{stage.value}-{quote(settings.node, safe='')}.json"
