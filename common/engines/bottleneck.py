"""A half and its part of the bottleneck as one engine: the inputs' names say what is executed."""

from __future__ import annotations

from typing import Dict, Mapping

import numpy as np

from common.engines.base import Engine

PIXELS_TO_LATENTS = "pixels_to_latents"
"""The backbone's input under this name gives `latents`; under the name `pixels` it gives features.

Frames whose inputs have different names are never put into one batch.
"""


class _WithPart:
    """A half and a part, which are loaded, run and closed on one thread."""

    def __init__(self, half: Engine, part: Engine) -> None:
        """Own both engines.

        Args:
            half: a half of the model, which may be paced.
            part: the part of the bottleneck that stands beside it.
        """
        self._half = half
        self._part = part

    @property
    def description(self) -> str:
        """The half's own description; the part runs on an engine of the same kind."""
        return self._half.description

    def close(self) -> None:
        """Release both."""
        try:
            self._part.close()
        finally:
            self._half.close()


class BackboneWithEncoder(_WithPart):
    """The backbone, and the bottleneck's encoder behind it for frames whose latents are wanted."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Execute once; see `common.engines.base.Engine.run`."""
        if PIXELS_TO_LATENTS not in inputs:
            return self._half.run(inputs)
        features = self._half.run({"pixels": inputs[PIXELS_TO_LATENTS]})
        return self._part.run(features)


class TransformerWithDecoder(_WithPart):
    """The transformer, and the bottleneck's decoder in front of it for frames with `latents`."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Execute once; see `common.engines.base.Engine.run`."""
        if "latents" not in inputs:
            return self._half.run(inputs)
        others = {name: array for name, array in inputs.items() if name != "latents"}
        return self._half.run({**self._part.run({"latents": inputs["latents"]}), **others})
