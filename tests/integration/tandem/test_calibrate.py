"""`tandem model calibrate` on a copy of the model that ships with the project."""

import json
import shutil
from contextlib import closing

import numpy as np
import pytest

from common.bundle import FixedInput, load_bundle, write_bundle
from common.bundle.folder import LATENT_TABLES_NAME
from common.codec import FeatureCodec, LatentCoders
from common.domain.codec import CALIBRATED_BITS, FEATURE_CODECS, Codec
from common.domain.errors import InvalidInputError
from common.domain.placement import Stage
from common.engines.registry import load_engine
from common.vision.decode import decode_image
from common.vision.preprocess import preprocess
from tandem.bundle_calibration import calibrate_bundle, evenly_spread, runs_of
from tandem.shipped import shipped_clip
from tandem.sources import open_source
from tests.harness import ROOT, TOY_BUNDLE, TOY_TENSORS
from tests.integration.tandem.commands import json_of, tandem
from tests.streams import jpeg

# As many cells as DETR's own input size has.
SIZE = FixedInput(height=800, width=1066)
# Bytes over each channel's own entropy.
MOST_OVER_ENTROPY = 1.08


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(ROOT / "tests/data/demo-r18", tmp_path / "demo")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.jpg").write_bytes(jpeg(number, 240, 320))
    return folder


def features_of_clip(folder, policy, indices):
    """float32 [n,1,channels,rows,columns]."""
    bundle = load_bundle(folder)
    with closing(open_source(str(shipped_clip()))) as source:
        frames = [frame.image for index, frame in enumerate(source) if index in indices]
    with closing(load_engine("onnxruntime", bundle.onnx_path(Stage.BACKBONE), 0)) as backbone:
        pixels = [
            preprocess(decode_image(image, 10**7), policy, bundle.manifest.normalization)[0]
            for image in frames
        ]
        return np.stack([backbone.run({"pixels": each})["features"] for each in pixels])


def entropy_bytes(values):
    """Of quantised values [1,channels,...], each channel by its own histogram."""
    bits = 0.0
    for channel in values[0]:
        counts = np.unique(channel, return_counts=True)[1]
        bits -= float((counts * np.log2(counts / counts.sum())).sum())
    return bits / 8


def test_the_command_writes_what_the_codecs_need(folder, pictures):
    before = load_bundle(folder)
    arguments = ("model", "calibrate", folder, "--images", pictures, "--codec", "q4")
    told = json_of(tandem(*arguments, "--json"))
    bundle = load_bundle(folder)
    assert told["digest"] == bundle.digest != before.digest
    assert (told["frames"], told["default"]) == (12, "q4")
    assert bundle.manifest.codec.default == "q4"
    assert bundle.manifest.codec.calibration.frames == 12
    unchanged = before.manifest.model_copy(update={"codec": bundle.manifest.codec})
    assert bundle.manifest == unchanged
    assert [each["codec"] for each in told["codecs"]] == [codec.value for codec in FEATURE_CODECS]
    sizes = [each["bytes_per_frame"] for each in told["codecs"]]
    errors = [each["relative_error"] for each in told["codecs"]]
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    table = tandem(*arguments)
    assert table.returncode == 0, table.stderr
    assert "q2" in table.stdout and bundle.digest in table.stdout
    # The same frames, the same bytes.
    assert load_bundle(folder).digest == bundle.digest
    assert "calibrated for q6" in tandem("model", "info", folder).stdout


def test_calibrating_again_without_a_codec_keeps_the_default(folder, pictures):
    tandem("model", "calibrate", folder, "--images", pictures, "--codec", "int8")
    told = json_of(
        tandem("model", "calibrate", folder, "--images", pictures, "--frames", 3, "--json")
    )
    assert (told["frames"], told["default"]) == (3, "int8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--images", "nowhere"), "nowhere"),
        (("--images", "models"), "no pictures"),
        (("--images", "{pictures}", "--frames", "0"), "--frames"),
        (("--images", "{pictures}", "--codec", "zip"), "--codec"),
        (("--images", "{pictures}", "--engine", "zip"), "unknown engine 'zip'"),
        ((), "--images"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(folder, pictures, arguments, words):
    before = (folder / "bundle.json").read_bytes()
    told = [argument.format(pictures=pictures) for argument in arguments]
    finished = tandem("model", "calibrate", folder, *told)
    assert finished.returncode != 0
    assert words in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
    assert (folder / "bundle.json").read_bytes() == before


def test_a_broken_picture_is_named_and_nothing_is_written(folder, pictures):
    before = (folder / "bundle.json").read_bytes()
    (pictures / "05.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with pytest.raises(InvalidInputError, match=r"05\.jpg"):
        calibrate_bundle(folder, open_source(str(pictures)), 12)
    assert (folder / "bundle.json").read_bytes() == before


def test_a_changed_half_is_not_blessed(folder, pictures):
    with (folder / "transformer.onnx").open("ab") as file:
        file.write(b"\0")
    finished = tandem("model", "calibrate", folder, "--images", pictures)
    assert "transformer.onnx has sha256" in finished.stderr
    assert finished.returncode != 0


@pytest.mark.parametrize(("frames", "expected"), [(3, [0, 4, 8]), (5, [0, 2, 4, 6, 8]), (99, 12)])
def test_frames_are_spread_over_the_source(pictures, frames, expected):
    names = [each.name for each in evenly_spread(open_source(str(pictures)), frames)]
    wanted = range(expected) if isinstance(expected, int) else expected
    assert names == [f"{number:02}.jpg" for number in wanted]


def test_padding_is_left_out(tmp_path, pictures):
    """The toy backbone's cells see 32 x 32 pixels each and nothing beyond."""
    folder = shutil.copytree(TOY_BUNDLE, tmp_path / "toy")
    manifest = load_bundle(folder).manifest
    calibrations = []
    for width in (128, 256):
        wide = manifest.model_copy(update={"input": FixedInput(height=96, width=width)})
        write_bundle(folder, wide)
        calibrated = calibrate_bundle(folder, open_source(str(pictures)), 12).bundle
        calibrations.append(calibrated.manifest.codec.calibration)
    tight, padded = calibrations
    assert padded.clip == tight.clip
    np.testing.assert_allclose(padded.mean, tight.mean, rtol=1e-4)
    np.testing.assert_allclose(padded.std, tight.std, rtol=1e-4)


def test_several_tensors_are_calibrated_together(tmp_path, pictures):
    folder = shutil.copytree(TOY_TENSORS, tmp_path / "toy")
    calibrated = calibrate_bundle(folder, open_source(str(pictures)), 12, default=Codec.Q4)
    manifest = calibrated.bundle.manifest
    assert manifest == load_bundle(folder).manifest
    assert (manifest.codec.default, manifest.codec.calibration.frames) == ("q4", 12)
    assert manifest.codec.calibration != load_bundle(TOY_TENSORS).manifest.codec.calibration
    sizes = {trial.codec: trial.bytes_per_frame for trial in calibrated.trials}
    assert sizes[Codec.FP32] == 4 * (6 * 5 * 7 + 10 * 3 * 4)
    assert sizes[Codec.Q2] < sizes[Codec.INT8] / 2
    errors = [trial.relative_error for trial in calibrated.trials]
    assert errors == sorted(errors)
    assert errors[0] == 0 and 0.1 < errors[-1] < 0.6


def test_bytes_are_within_a_few_percent_of_the_entropy(folder, pictures):
    bundle = load_bundle(folder)
    content = json.loads((folder / "bundle.json").read_text())
    content["input"] = SIZE.model_dump()
    (folder / "bundle.json").write_text(json.dumps(content))
    with closing(open_source(str(shipped_clip()))) as source:
        calibrated = calibrate_bundle(folder, source, 16).bundle
    codecs = FeatureCodec(calibrated.manifest.codec.calibration)
    for features in features_of_clip(folder, SIZE, {50, 150}):
        assert features.shape == (1, bundle.manifest.feature_channels, 25, 34)
        for codec in (Codec.INT8, *CALIBRATED_BITS):
            encoded = codecs.encode(features, codec)
            entropy = entropy_bytes(codecs.decode(encoded))
            assert len(encoded.data) <= MOST_OVER_ENTROPY * entropy, codec


def test_a_video_makes_the_tables_of_latents_and_pictures_leave_them(tmp_path, pictures):
    folder = shutil.copytree(TOY_BUNDLE, tmp_path / "toy")
    before = (folder / LATENT_TABLES_NAME).read_bytes()
    calibrate_bundle(folder, open_source(str(pictures)), 12)
    assert (folder / LATENT_TABLES_NAME).read_bytes() == before
    bundle = calibrate_bundle(folder, open_source(str(shipped_clip())), 12).bundle
    assert (folder / LATENT_TABLES_NAME).read_bytes() != before
    bundle.check_files()
    assert LatentCoders.of_bundle(bundle).of(Codec.LATENT)
    for rate in bundle.manifest.bottleneck.rates.values():
        assert 0 < rate.measured.bytes_per_frame < rate.measured.bytes_per_key_frame


def test_a_bottleneck_without_tables_is_not_calibrated_on_pictures(tmp_path, pictures):
    folder = shutil.copytree(TOY_BUNDLE, tmp_path / "toy")
    manifest = load_bundle(folder).manifest
    files = {name: each for name, each in manifest.files.items() if name != LATENT_TABLES_NAME}
    write_bundle(folder, manifest.model_copy(update={"files": files}))
    with pytest.raises(InvalidInputError, match="give a video"):
        calibrate_bundle(folder, open_source(str(pictures)), 12)


@pytest.mark.parametrize(
    ("count", "frames", "runs"),
    [
        (None, 300, [range(300)]),
        (200, 300, [range(300)]),
        (240, 60, [range(30), range(120, 150)]),
        (240, 20, [range(20)]),
    ],
)
def test_runs_are_spread_over_a_video(count, frames, runs):
    assert runs_of(count, frames) == runs
