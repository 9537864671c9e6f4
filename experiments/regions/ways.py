"""Ways to answer the frames of a fixed camera; each keeps the state of one clip."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from common.bundle import Bundle, require_detr
from common.bundle.folder import ONNX_NAMES
from common.domain.detections import Detection, DetectionOptions
from common.domain.errors import ConfigurationError
from common.domain.frames import FrameGeometry
from common.domain.placement import Stage
from common.engines.registry import load_engine
from common.vision.position import transformer_inputs
from common.vision.postprocess import detections
from common.vision.preprocess import input_geometry, normalise
from common.vision.resize import resize_bilinear
from experiments.regions.decision import Crop, moved_cells, smallest_crop

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]
Found = tuple[Detection, ...]

WHOLE_EVERY = 24  # frames
LARGEST_SHARE = 0.7  # of a frame's cells in a crop
_OPTIONS = DetectionOptions(score_threshold=0.05)


class Model:
    """Both halves on one thread, for frames of one size."""

    def __init__(self, bundle: Bundle, height: int, width: int) -> None:
        """Load the halves for frames of height x width pixels.

        Raises:
            ConfigurationError: such frames do not fill the input, or not whole cells.
        """
        self._manifest = manifest = require_detr(bundle.manifest, "the experiment with regions")
        self._backbone, self._transformer = (
            load_engine("onnxruntime", bundle.folder / ONNX_NAMES[stage], 1) for stage in Stage
        )
        self.geometry = input_geometry(height, width, manifest.input)
        self.stride = manifest.feature_stride
        size = self.geometry.valid_height, self.geometry.valid_width
        if size != (self.geometry.input_height, self.geometry.input_width) or any(
            side % self.stride for side in size
        ):
            raise ConfigurationError(
                f"frames of {width} x {height} do not fill the model's input with whole cells"
            )
        self.grid = size[0] // self.stride, size[1] // self.stride
        width = manifest.architecture.hidden_dim
        self._position, self._mask = transformer_inputs(self.geometry, self.grid, width)

    def resized(self, rgb: Pixels) -> Pixels:
        """The frame as the backbone takes it, uint8 [H,W,3]."""
        return resize_bilinear(rgb, self.geometry.valid_height, self.geometry.valid_width)

    def features(self, part: Pixels) -> Array:
        """Features [1,C,h,w] of a resized frame, or of a part of it in whole cells."""
        sides = part.shape[:2]
        tensor = normalise(
            part, FrameGeometry(*sides, *sides, *sides), self._manifest.normalization
        )
        return self._backbone.run({"pixels": tensor})["features"]

    def found(self, features: Array, crop: Crop) -> Found:
        """Detections in the frame's pixels, given the features of a crop or of the whole."""
        part = np.s_[..., crop.top : crop.bottom, crop.left : crop.right]
        position, mask = (np.ascontiguousarray(one[part]) for one in (self._position, self._mask))
        inputs = {"features": features, "pos": position, "mask": mask}
        outputs = self._transformer.run(inputs)
        logits, boxes = outputs["logits"][0], outputs["boxes"][0]
        manifest = self._manifest
        return detections(
            logits, boxes, self.geometry, manifest.categories, _OPTIONS, scoring=manifest.scoring
        )

    @property
    def whole(self) -> Crop:
        """All cells."""
        return Crop(0, self.grid[0], 0, self.grid[1])


class Way(ABC):
    """Answers frame after frame.

    Attributes:
        name: for the report.
        cells: that the backbone has computed so far; features sent are proportional to them.
    """

    name: str

    def __init__(self, model: Model) -> None:
        """Begin a clip."""
        self.model = model
        self.cells = 0
        self._last: Found = ()

    @abstractmethod
    def answer(self, rgb: Pixels) -> Found:
        """Detect in the next frame."""

    def computed(self, part: Pixels, crop: Crop) -> Array:
        """Features of a crop, which is counted."""
        self.cells += crop.cells
        return self.model.features(part)


class EveryNth(Way):
    """Whole frames, one in so many; the others repeat its answer."""

    def __init__(self, model: Model, nth: int) -> None:
        """Begin a clip."""
        super().__init__(model)
        self.name = "whole frames" if nth == 1 else f"one frame in {nth}"
        self._nth = nth
        self._count = 0

    def answer(self, rgb: Pixels) -> Found:
        """See `Way.answer`."""
        if self._count % self._nth == 0:
            whole = self.model.whole
            self._last = self.model.found(self.computed(self.model.resized(rgb), whole), whole)
        self._count += 1
        return self._last


class StillSkipped(Way):
    """A frame in which nothing moved repeats the answer; every other one is computed whole.

    What moved is told from the picture on which the answer rests. Every `WHOLE_EVERY`th frame is
    computed in any case.
    """

    name = "still frames skipped"
    margin: int | None = None
    """Of crops, cells; None: there are no crops."""

    def __init__(self, model: Model) -> None:
        """Begin a clip."""
        super().__init__(model)
        self._rests_on: Pixels | None = None
        self._since_whole = 0
        self._features = np.empty(0, np.float32)

    def answer(self, rgb: Pixels) -> Found:
        """See `Way.answer`."""
        frame = self.model.resized(rgb)
        self._since_whole += 1
        if self._rests_on is None or self._since_whole >= WHOLE_EVERY:
            return self._whole(frame)
        moved = moved_cells(frame, self._rests_on, self.model.stride)
        if not moved.any():
            return self._last
        crop = None if self.margin is None else smallest_crop(moved, self.margin, LARGEST_SHARE)
        if crop is None:
            return self._whole(frame)
        side = self.model.stride
        part = np.s_[crop.top * side : crop.bottom * side, crop.left * side : crop.right * side]
        self._rests_on[part] = frame[part]
        self._last = self.in_crop(self.computed(np.ascontiguousarray(frame[part]), crop), crop)
        return self._last

    def in_crop(self, features: Array, crop: Crop) -> Found:
        """Everything that the frame shows, given the features of what moved."""
        raise NotImplementedError

    def _whole(self, frame: Pixels) -> Found:
        whole = self.model.whole
        self._rests_on, self._since_whole = frame.copy(), 0
        self._features = self.computed(frame, whole)
        self._last = self.model.found(self._features, whole)
        return self._last


class CroppedFrames(StillSkipped):
    """Both halves see the crop, at its place in the frame; boxes outside are carried over."""

    name = "crops, boxes carried over"
    margin = 2

    def in_crop(self, features: Array, crop: Crop) -> Found:
        """See `StillSkipped.in_crop`."""
        kept = [one for one in self._last if not self._is_within(one, crop)]
        found = self.model.found(features, crop)
        return (*kept, *(one for one in found if self._is_within(one, crop)))

    def _is_within(self, one: Detection, crop: Crop) -> bool:
        geometry, (rows, columns) = self.model.geometry, self.model.grid
        x = (one.box.x_min + one.box.x_max) / 2 / geometry.frame_width * columns
        y = (one.box.y_min + one.box.y_max) / 2 / geometry.frame_height * rows
        return crop.left <= x < crop.right and crop.top <= y < crop.bottom


class CroppedFeatures(StillSkipped):
    """The backbone sees the crop, the transformer the frame: other features are carried over.

    A crop's outermost cells see its edge instead of the frame around it, and are not taken.
    """

    name = "crops, features carried over"
    margin = 2

    def in_crop(self, features: Array, crop: Crop) -> Found:
        """See `StillSkipped.in_crop`."""
        rows, columns = self.model.grid
        inner = Crop(
            crop.top + (crop.top > 0),
            crop.bottom - (crop.bottom < rows),
            crop.left + (crop.left > 0),
            crop.right - (crop.right < columns),
        )
        self._features[:, :, inner.top : inner.bottom, inner.left : inner.right] = features[
            ...,
            inner.top - crop.top : inner.bottom - crop.top,
            inner.left - crop.left : inner.right - crop.left,
        ]
        return self.model.found(self._features, self.model.whole)
