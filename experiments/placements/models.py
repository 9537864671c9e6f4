"""The models: bundles that are there, or full-size ones exported once with random weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import ROOT
from common.bundle import Bundle, load_bundle
from experiments.placements.config import Config, ModelPlan

DEFAULT_CACHE = ROOT / "cache" / "experiments"


@dataclass(frozen=True)
class Model:
    """A model of the experiment.

    Attributes:
        name: as the configuration calls it.
        bundle: None where only the machines that run it have it.
    """

    name: str
    bundle: Bundle | None


def prepare_models(
    config: Config, cache: Path, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Model]:
    """Every model by its name; those with an architecture are exported below `cache` once.

    Raises:
        ConfigurationError: a bundle is missing or malformed.
    """
    return {
        plan.name: Model(plan.name, _bundle(plan, config, cache, progress))
        for plan in config.models
    }


def _bundle(
    plan: ModelPlan, config: Config, cache: Path, progress: Callable[[str], None]
) -> Bundle | None:
    if plan.bundle is not None:
        return load_bundle(plan.bundle)
    if plan.architecture is None:
        return None
    size = config.input
    # Another architecture of the same name is another model.
    told = hashlib.sha256(plan.architecture.model_dump_json().encode()).hexdigest()[:8]
    out = cache / f"{plan.name}-{size.height}x{size.width}-{told}".lower()
    if not (out / "bundle.json").is_file():
        # torch: only whoever exports needs it.
        from benchmarks.workload import export_random

        progress(f"exporting {plan.name} with random weights")
        name = f"{plan.name} {size.height}x{size.width}"
        export_random(name, plan.architecture, size, out)
    return load_bundle(out)
