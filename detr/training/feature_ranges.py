"""What features a released model sends, for the codecs whose ranges are calibrated."""

from __future__ import annotations

from common.bundle import Bundle, CodecDefaults, write_bundle
from common.codec.feature_statistics import FeatureStatistics
from common.domain.codec import Codec
from common.domain.placement import Stage
from common.engines.registry import load_engine
from common.vision.preprocess import preprocess
from scenes.splits import SceneSource

# As `tandem model calibrate` takes by default.
_FRAMES = 300
# Costs nothing that AP could show (docs/accuracy.md), for half the bytes of fp16.
_DEFAULT = Codec.INT8


def measured_codecs(bundle: Bundle, scenes: SceneSource, height: int, width: int) -> CodecDefaults:
    """Calibrate on scenes such as the model was trained on.

    Args:
        bundle: the exported model.
        scenes: of the training split.
        height: of the frames, pixels.
        width: of the frames, pixels.

    Raises:
        ConfigurationError: the backbone is missing or is not the one that was exported.
    """
    manifest = bundle.manifest
    backbone = load_engine("onnxruntime", bundle.onnx_path(Stage.BACKBONE), 0)
    statistics = FeatureStatistics()
    try:
        for index in range(_FRAMES):
            scene = scenes.scene(index, height, width)
            pixels, geometry = preprocess(scene.pixels, manifest.input, manifest.normalization)
            features = backbone.run({"pixels": pixels})["features"][0]
            rows = -(-geometry.valid_height // manifest.feature_stride)
            columns = -(-geometry.valid_width // manifest.feature_stride)
            statistics.add(features[:, :rows, :columns])
    finally:
        backbone.close()
    return CodecDefaults(default=_DEFAULT.value, calibration=statistics.calibration())


def with_codecs(bundle: Bundle, codecs: CodecDefaults) -> Bundle:
    """Write them into the bundle's manifest, whose digest changes."""
    return write_bundle(bundle.folder, bundle.manifest.model_copy(update={"codec": codecs}))
