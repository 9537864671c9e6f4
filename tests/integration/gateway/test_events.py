"""Events of a whole gateway's camera, at a real broker, whatever happens to the stages."""

import json

import pytest

from common.domain.placement import NodePair
from tests.brokers import MOSQUITTO, WHY_NOT, Mosquitto, listening
from tests.gateways import gateway
from tests.harness import ServiceProcess
from tests.streams import jpeg


def objects(listener, kind):
    told = [json.loads(each) for each in listener.of("tandem/events")]
    return [each["after"]["track_id"] for each in told if each["type"] == kind]


def latest_frame(listener):
    return json.loads(listener.of("tandem/front_door/detections")[-1])


def has_left(listener, pair):
    """Whether frames take another transformer."""
    latest = latest_frame(listener)["placement"]
    return latest is not None and NodePair.parse(latest).transformer != pair.transformer


@pytest.mark.skipif(MOSQUITTO is None, reason=WHY_NOT)
async def test_objects_of_a_camera_appear_stay_when_a_stage_dies_and_leave(own_cluster, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/one.jpg").write_bytes(jpeg(3))
    camera = {
        "name": "Front door",
        "url": str(tmp_path / "pictures"),
        "frames_per_second": 20,
        "threshold": 0.3,
        "reports": "frames",
    }
    broker = Mosquitto(tmp_path).start()
    try:
        async with listening(broker) as listener:
            address = f"127.0.0.1:{broker.port}"
            arguments = ("--mqtt", "--mqtt-broker", address)
            with gateway(own_cluster.address, tmp_path, [camera], *arguments) as process:
                await listener.until(lambda it: len(objects(it, "new")) == 4)
                before = NodePair.parse(latest_frame(listener)["placement"])
                own_cluster.stages[f"{before.transformer}.transformer"].kill()
                await listener.until(lambda it: has_left(it, before))
                assert process.terminate() == 0
            await listener.until(lambda it: it.latest["tandem/available"] == "offline")
        assert sorted(objects(listener, "new")) == sorted(objects(listener, "end"))
        assert len(objects(listener, "new")) == 4
        assert listener.latest["tandem/front_door/all"] == "0"
    finally:
        broker.stop()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--mqtt", "--mqtt-broker", "192.0.2.1"), "is on another machine"),
        (("--mqtt", "--mqtt-user", "me", "--mqtt-password-file", "none"), "cannot be read"),
        (("--webhooks", "--webhook-targets", "none.yaml"), "cannot read none.yaml"),
    ],
)
def test_bad_configuration_ends_the_gateway_with_a_sentence(tmp_path, arguments, sentence):
    cameras = tmp_path / "cameras.yaml"
    cameras.write_text("cameras: []\n")
    process = ServiceProcess(
        *("services.gateway", "--cameras", str(cameras), "--port", "0", "--metrics-port", "0"),
        *("--http-port", "0", *arguments),
    )
    try:
        with pytest.raises(RuntimeError):
            process.announcement  # noqa: B018 - waits until it is healthy
        told = process.log_text()
        assert sentence in told
        assert "Traceback" not in told
    finally:
        process.close()
