"""Every codec through real services."""

import itertools
import json
import shutil

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2

from common.bundle import CodecDefaults, load_bundle, write_bundle
from common.codec import FeatureCodec
from common.domain.codec import FEATURE_CODECS, LATENT_CODECS, Codec
from common.domain.errors import ConfigurationError
from common.wire.frames import codec_to_wire, tensor_to_wire
from protos.tandem.v1 import detector_pb2, stage_pb2, stage_pb2_grpc, tensor_pb2
from tests.harness import TOY_BUNDLE, Cluster, ServiceProcess
from tests.streams import boxes, detect, frame, options
from tests.waiting import PATIENCE_SECONDS

FRAMES = [frame(number) for number in range(30)]
# How far a score (0 to 1) and a side of a box (as a share of the frame's) are from fp32's, root
# mean square over all frames. The toy bundle averages over 12 cells only.
BOX_ERROR = {
    Codec.FP32: 0.0,
    Codec.FP16: 5e-5,
    Codec.INT8: 1e-3,
    Codec.Q6: 0.004,
    Codec.Q5: 0.008,
    Codec.Q4: 0.016,
    Codec.Q3: 0.025,
    Codec.Q2: 0.045,
    Codec.LATENT_FINE: 1e-3,
    Codec.LATENT: 0.008,
    Codec.LATENT_COARSE: 0.03,
}
FRAME_SIZE = np.array([160, 120, 160, 120])


@pytest.fixture(scope="module")
def uncalibrated(tmp_path_factory):
    """The toy bundle as it was before it was calibrated, and got a bottleneck."""
    folder = tmp_path_factory.mktemp("uncalibrated") / "toy"
    shutil.copytree(TOY_BUNDLE, folder)
    manifest = load_bundle(folder).manifest
    plain = {"codec": CodecDefaults(default="int8"), "bottleneck": None}
    write_bundle(folder, manifest.model_copy(update=plain))
    return folder


@pytest.fixture(scope="module")
def uncalibrated_cluster(uncalibrated):
    running = Cluster(uncalibrated)
    yield running
    running.close()


async def answers_by(cluster, codec):
    placement = detector_pb2.PLACEMENT_BACKBONE
    chosen = options(placement=placement, codec=codec_to_wire(codec))
    return await detect(cluster.address, [chosen, *FRAMES])


@pytest.mark.parametrize("codec", Codec)
async def test_every_frame_is_answered_with_boxes_like_those_of_fp32(cluster, codec):
    answers = await answers_by(cluster, codec)
    assert [each.frame_id for each in answers] == list(range(30))
    errors = [
        squared_error(scored_boxes(ours), scored_boxes(exact))
        for ours, exact in zip(answers, await answers_by(cluster, Codec.FP32))
    ]
    error = np.sqrt(np.mean(errors))
    # A budget that is far too large would not notice a fault.
    assert BOX_ERROR[codec] / 10 <= error <= BOX_ERROR[codec]


def scored_boxes(response):
    """[5,5]: score, and sides as a share of the frame's."""
    found = boxes(response)
    assert found.shape == (5, 6)
    return np.column_stack([found[:, 1], found[:, 2:] / FRAME_SIZE])


def squared_error(ours, exact):
    """Mean over the queries; answers are ordered by score, so look for who is who."""
    orders = np.array(list(itertools.permutations(range(len(ours)))))
    return np.square(ours[orders] - exact).mean(axis=(1, 2)).min()


async def test_fewer_bits_take_fewer_bytes(cluster):
    sizes = {}
    for codec in Codec:
        answers = await answers_by(cluster, codec)
        sizes[codec] = sum(each.timing.transformer.request_bytes for each in answers)
    assert sizes[Codec.FP32] == 30 * 8 * 3 * 4 * 4
    for family in (FEATURE_CODECS, LATENT_CODECS):
        of_family = [sizes[codec] for codec in family]
        assert of_family == sorted(of_family, reverse=True)
    # q6 and q5 put one symbol into a byte, q4 and q3 two: of so few values, nothing is gained
    # between them.
    apart = [sizes[codec] for codec in (Codec.FP32, Codec.FP16, Codec.INT8, Codec.Q6, Codec.Q4)]
    assert len({*apart, sizes[Codec.Q2]}) == 6
    assert len({sizes[codec] for codec in LATENT_CODECS}) == 3


@pytest.mark.parametrize(
    ("codec", "words"),
    [
        (Codec.Q6, "tandem model calibrate"),
        (Codec.Q2, "tandem model calibrate"),
        (Codec.LATENT, "needs a bundle with a bottleneck, and this one has none"),
    ],
)
async def test_an_uncalibrated_bundle_says_what_to_do(uncalibrated_cluster, codec, words):
    responses = await detect(
        uncalibrated_cluster.address, [options(codec=codec_to_wire(codec)), *FRAMES[:2]]
    )
    assert [each.error.code for each in responses] == [code_pb2.FAILED_PRECONDITION] * 2
    assert all(words in each.error.message for each in responses)


async def test_an_uncalibrated_bundle_serves_its_default_and_the_other_codecs(
    uncalibrated_cluster,
):
    (by_default,) = await detect(uncalibrated_cluster.address, [options(), frame(0)])
    (named,) = await detect(
        uncalibrated_cluster.address, [options(codec=tensor_pb2.CODEC_INT8), frame(0)]
    )
    np.testing.assert_array_equal(boxes(by_default), boxes(named))


async def test_the_stream_to_a_backbone_fails_when_it_opens(uncalibrated_cluster):
    backbone = uncalibrated_cluster.stages["edge.backbone"]
    opening = stage_pb2.BackboneOpen(downstream_node="edge", codec=tensor_pb2.CODEC_Q4)
    async with grpc.aio.insecure_channel(backbone.address) as channel:
        stub = stage_pb2_grpc.BackboneStub(channel)
        call = stub.Process(iter([stage_pb2.BackboneRequest(open=opening)]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "q4 needs a calibrated bundle" in caught.value.details()


def features_of(frame_id, tensor):
    geometry = stage_pb2.FrameGeometry(
        frame_height=120,
        frame_width=160,
        input_height=96,
        input_width=128,
        valid_height=96,
        valid_width=128,
    )
    return stage_pb2.TransformerRequest(
        features=stage_pb2.Features(frame_id=frame_id, geometry=geometry, tensor=tensor)
    )


async def test_a_corrupt_payload_is_refused_and_the_stream_goes_on(cluster):
    bundle = load_bundle(TOY_BUNDLE)
    codecs = FeatureCodec(bundle.manifest.codec.calibration)
    values = np.random.default_rng(0).normal(0, 0.2, (1, 8, 3, 4)).astype(np.float32)
    tensors = [tensor_to_wire(codecs.encode(values, codec)) for codec in FEATURE_CODECS]
    requests = [
        stage_pb2.TransformerRequest(open=stage_pb2.TransformerOpen(bundle_digest=bundle.digest))
    ]
    for number, tensor in enumerate(tensors):
        damaged = tensor_pb2.Tensor()
        damaged.CopyFrom(tensor)
        damaged.data = tensor.data[:-1]
        requests += [features_of(2 * number, damaged), features_of(2 * number + 1, tensor)]
    async with grpc.aio.insecure_channel(cluster.stages["edge.transformer"].address) as channel:
        stub = stage_pb2_grpc.TransformerStub(channel)
        answers = [each async for each in stub.Process(iter(requests))]
    results = [each.result for each in answers[1:]]
    assert [each.frame_id for each in results] == list(range(2 * len(tensors)))
    for damaged, whole in zip(results[::2], results[1::2]):
        assert damaged.error.code == code_pb2.INVALID_ARGUMENT
        assert "bytes" in damaged.error.message
        assert len(whole.detections.detections) > 0


def test_a_default_that_cannot_be_served_is_refused_at_start(uncalibrated, tmp_path):
    folder = tmp_path / "toy"
    shutil.copytree(uncalibrated, folder)
    content = json.loads((folder / "bundle.json").read_text())
    content["codec"]["default"] = "q3"
    (folder / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match="default codec q3 needs a calibration"):
        load_bundle(folder)
    arguments = ("--node", "edge", "--bundle", str(folder), "--port", "0", "--metrics-port", "0")
    service = ServiceProcess("services.transformer", *arguments)
    try:
        assert service.process.wait(PATIENCE_SECONDS) != 0
        assert "default codec q3 needs a calibration" in service.log_text()
        assert "Traceback" not in service.log_text()
    finally:
        service.close()
