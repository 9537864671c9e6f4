"""What a real broker is told of the cameras; it is stopped, started, and has its own rules."""

import asyncio
import json
import os
import re
import subprocess
import sys

import aiomqtt
import pytest
import structlog

from common.domain.errors import ConfigurationError
from services.gateway.cameras.configuration import Reports
from services.gateway.cameras.feed import CameraCondition, CameraFeed
from services.gateway.events.outbox import EventMetrics
from services.gateway.mqtt.door import Mqtt
from services.gateway.mqtt.topics import level_of
from tests.authorities import Authority
from tests.brokers import MOSQUITTO, WHY_NOT, Mosquitto, listening
from tests.unit.gateway.doors import gateway, metric, running, settings, subscribed
from tests.unit.gateway.frames import ShownCamera, found
from tests.waiting import PATIENCE_SECONDS

UP = "tandem_events_receiver_up"

needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason=WHY_NOT)


@pytest.fixture
def broker(tmp_path):
    it = Mosquitto(tmp_path).start()
    yield it
    it.stop()


def at(broker, **values):
    return {"mqtt": True, "mqtt_broker": f"127.0.0.1:{broker.port}", **values}


def connected(listener):
    return listener.latest.get("tandem/available") == "online"


def events(listener):
    found = [json.loads(each) for each in listener.of("tandem/events")]
    return [(each["type"], each["after"]["track_id"]) for each in found]


def told(camera, values):
    """Whether each of a camera's topics has this value."""
    wanted = {f"tandem/{camera}/{topic}": value for topic, value in values.items()}
    return lambda listener: wanted.items() <= listener.latest.items()


@needs_mosquitto
async def test_objects_counts_detections_and_availability_are_told(broker):
    feed = CameraFeed()
    door = ShownCamera(feed, "Front door")
    async with listening(broker) as listener:
        async with running(Mqtt, feed, **at(broker)):
            await listener.until(connected)
            await subscribed(feed)
            door.show(found(1), found(2, x=200.0, label="traffic light"), times=3)
            await listener.until(lambda it: len(events(it)) == 2)
            assert events(listener) == [("new", 1), ("new", 2)]
            counts = {"all": "2", "person": "1", "traffic_light": "1", "available": "online"}
            await listener.until(told("front_door", counts))
            (detections,) = listener.of("tandem/front_door/detections")
            frame = json.loads(detections)
            assert [each["label"] for each in frame["objects"]] == ["person", "traffic light"]
            assert frame["objects"][0]["box"] == [10, 10, 50, 90]
            assert frame["camera"] == "Front door"
            door.condition = CameraCondition.LOST
            await listener.until(lambda it: len(events(it)) == 4)
            assert events(listener)[2:] == [("end", 1), ("end", 2)]
            await listener.until(told("front_door", {"all": "0", "available": "offline"}))
        await listener.until(lambda it: it.latest["tandem/available"] == "offline")
    # It is there for whoever comes later.
    async with listening(broker) as later:
        await later.until(told("front_door", {"person": "0"}))
        await later.until(lambda it: it.latest.get("tandem/available") == "offline")


@needs_mosquitto
async def test_a_camera_that_the_next_gateway_lacks_is_not_available(broker):
    async with listening(broker) as listener:
        feed = CameraFeed()
        camera = ShownCamera(feed, "one")
        async with running(Mqtt, feed, **at(broker)):
            await subscribed(feed)
            camera.show(found(1), times=3)
            await listener.until(told("one", {"available": "online", "person": "1"}))
        await listener.until(told("one", {"available": "offline", "person": "0"}))
        feed = CameraFeed()
        ShownCamera(feed, "two")
        async with running(Mqtt, feed, **at(broker)):
            await listener.until(told("two", {"available": "online"}))
            assert listener.latest["tandem/one/available"] == "offline"


@needs_mosquitto
@pytest.mark.parametrize(
    ("reports", "count"), [(Reports.FRAMES, 5), (Reports.CHANGES, 2), (Reports.NONE, 0)]
)
async def test_each_camera_tells_of_the_frames_that_it_is_to_tell_of(broker, reports, count):
    feed = CameraFeed()
    camera = ShownCamera(feed, "one", reports)
    async with listening(broker) as listener, running(Mqtt, feed, **at(broker)):
        await listener.until(connected)
        await subscribed(feed)
        camera.show(found(1), times=4)
        camera.show(found(1), found(2, x=200.0))
        await listener.until(lambda it: events(it) == [("new", 1)])
        await listener.until(lambda it: len(it.of("tandem/one/detections")) >= count)
        assert len(listener.of("tandem/one/detections")) == count


@needs_mosquitto
async def test_home_assistant_finds_a_count_and_an_occupancy_of_each_category(broker):
    feed = CameraFeed()
    camera = ShownCamera(feed, "Front door")
    async with listening(broker) as listener, running(Mqtt, feed, **at(broker)):
        await subscribed(feed)
        camera.show(found(1), times=3)
        await listener.until(lambda it: it.latest.get("tandem/front_door/person") == "1")
    node = "homeassistant/{}/tandem_front_door/{}/config"
    for kind in ("sensor", "binary_sensor"):
        for label in ("all", "person"):
            sensor = json.loads(listener.latest[node.format(kind, label)])
            assert sensor["state_topic"] == f"tandem/front_door/{label}"
            assert [each["topic"] for each in sensor["availability"]] == [
                "tandem/available",
                "tandem/front_door/available",
            ]
            assert sensor["device"]["name"] == "Front door"
    sensors = [each for topic, each in listener.latest.items() if topic.endswith("/config")]
    names = [json.loads(each)["unique_id"] for each in sensors]
    assert len(names) == len(set(names)) == 4


@needs_mosquitto
async def test_labels_that_topics_cannot_hold_apart_are_counted_together(broker):
    feed = CameraFeed()
    camera = ShownCamera(feed, "one")
    async with listening(broker) as listener, running(Mqtt, feed, **at(broker)):
        await subscribed(feed)
        labels = ("hot dog", "Hot-Dog", "all")
        objects = [found(at, x=200.0 * at, label=label) for at, label in enumerate(labels, 1)]
        camera.show(*objects, times=3)
        await listener.until(told("one", {"hot_dog": "2", "all": "3", level_of("all"): "1"}))


def test_labels_have_topics_of_their_own():
    labels = ("person", "traffic light", "人", "车", "café", "caf", "", "-", "all", "available")
    levels = [level_of(label) for label in labels]
    assert levels[:2] == ["person", "traffic_light"]
    assert len({*levels, "all", "available", "detections"}) == len(labels) + 3
    assert all(re.fullmatch("[a-z0-9_]+", level) for level in levels)
    # Home Assistant knows an object by it after a restart as well.
    assert level_of("café") == "caf_850f7d"


@needs_mosquitto
async def test_nobody_is_introduced_where_home_assistant_is_not_wanted(broker):
    feed = CameraFeed()
    ShownCamera(feed, "one")
    wanted = at(broker, mqtt_home_assistant="", mqtt_prefix="yard/tandem")
    async with listening(broker) as listener, running(Mqtt, feed, **wanted):
        await listener.until(lambda it: it.latest.get("yard/tandem/one/all") == "0")
        assert {topic.split("/")[0] for topic in listener.latest} == {"yard"}


@needs_mosquitto
async def test_a_broker_that_was_away_gets_what_waited_and_is_told_what_was_lost(broker):
    feed = CameraFeed()
    camera = ShownCamera(feed, "one", Reports.NONE)
    async with running(Mqtt, feed, **at(broker, mqtt_max_waiting=4)) as shared:
        async with listening(broker) as listener:
            await listener.until(connected)
        broker.stop()
        await until(lambda: metric(shared, UP, receiver="mqtt") == 0)
        crowd = [found(number, x=50.0 * number) for number in range(1, 8)]
        camera.show(*crowd, times=3)
        lost = "tandem_events_lost_total"
        await until(lambda: metric(shared, lost, receiver="mqtt") == 3)
        assert metric(shared, "tandem_events_waiting", receiver="mqtt") == 4
        broker.start()
        async with listening(broker) as listener:
            await listener.until(lambda it: it.latest.get("tandem/one/all") == "7")
            await listener.until(lambda it: json.loads(it.latest["tandem/status"]))
            assert json.loads(listener.latest["tandem/status"]) == {"lost_messages": 3}
            assert listener.latest["tandem/available"] == "online"
            assert any("binary_sensor" in topic for topic in listener.latest)
            await until(lambda: metric(shared, "tandem_events_waiting", receiver="mqtt") == 0)
            assert metric(shared, "tandem_events_sent_total", receiver="mqtt") == 4
            camera.show(*crowd, found(9, x=700.0), times=3)
            await listener.until(lambda it: ("new", 9) in events(it))


@needs_mosquitto
async def test_counts_that_a_killed_gateway_left_are_taken_back(broker):
    feed = CameraFeed()
    camera = ShownCamera(feed, "one")
    left = {"tandem/one/all": "3", "tandem/one/person": "2", "tandem/one/dog": "1"}
    others = {"tandem/another/person": "5", "tandem/one/available": "online"}
    async with listening(broker) as listener:
        async with aiomqtt.Client("127.0.0.1", broker.port) as before:
            for topic, payload in (left | others).items():
                await before.publish(topic, payload, qos=1, retain=True)
        async with running(Mqtt, feed, **at(broker)):
            await listener.until(told("one", {"all": "0", "person": "0", "dog": "0"}))
            # What is seen again is counted again.
            await subscribed(feed)
            camera.show(found(1, label="dog"), times=3)
            await listener.until(told("one", {"all": "1", "person": "0", "dog": "1"}))
            assert listener.latest["tandem/another/person"] == "5"
    async with listening(broker) as later:
        await later.until(told("one", {"person": "0"}))


@needs_mosquitto
async def test_a_message_that_the_broker_hangs_up_on_stops_no_other(tmp_path):
    broker = Mosquitto(tmp_path, "allow_anonymous true", "max_packet_size 4000").start()
    feed = CameraFeed()
    camera = ShownCamera(feed, "one", Reports.FRAMES)
    try:
        async with listening(broker) as listener, running(Mqtt, feed, **at(broker)) as shared:
            await listener.until(connected)
            await subscribed(feed)
            camera.show(*[found(None)] * 100)
            camera.show(found(1), times=3)
            await listener.until(lambda it: events(it) == [("new", 1)], seconds=60)
            assert metric(shared, "tandem_events_lost_total", receiver="mqtt") == 1
    finally:
        broker.stop()


@needs_mosquitto
async def test_a_door_ends_although_its_broker_dies_in_the_same_moment(broker):
    feed = CameraFeed()
    camera = ShownCamera(feed, "one")
    async with asyncio.timeout(30):
        async with running(Mqtt, feed, **at(broker)) as shared:
            await until(lambda: metric(shared, UP, receiver="mqtt") == 1)
            broker.stop()
            camera.show(found(1), times=3)


@needs_mosquitto
async def test_the_last_will_tells_of_a_gateway_that_was_killed(broker, tmp_path):
    script = tmp_path / "gateway.py"
    script.write_text(
        "import asyncio\n"
        "from services.gateway.cameras.feed import CameraFeed\n"
        "from services.gateway.mqtt.door import Mqtt\n"
        "from tests.unit.gateway.doors import running\n"
        "async def main():\n"
        f"    broker = '127.0.0.1:{broker.port}'\n"
        "    async with running(Mqtt, CameraFeed(), mqtt=True, mqtt_broker=broker):\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script)), env={**os.environ, "PYTHONPATH": "."}
    )
    try:
        async with listening(broker) as listener:
            await listener.until(connected, seconds=60)
            process.kill()
            await listener.until(lambda it: it.latest["tandem/available"] == "offline")
    finally:
        await process.wait()


@needs_mosquitto
async def test_the_broker_may_ask_for_a_password_and_be_encrypted(tmp_path):
    authority = Authority(tmp_path)
    pair = authority.issue("backbone/broker")
    passwords = tmp_path / "passwords"
    passwords.write_text("tandem:quite secret\n")
    passwords.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
    broker = Mosquitto(
        tmp_path,
        "allow_anonymous false",
        f"password_file {passwords}",
        f"certfile {pair.certificate}",
        f"keyfile {pair.key}",
        f"cafile {authority.path}",
    ).start()
    secret = tmp_path / "secret"
    secret.write_text("quite secret\n")
    values = {
        "mqtt_tls": True,
        "mqtt_ca": authority.path,
        "mqtt_user": "tandem",
        "mqtt_password_file": secret,
    }
    try:
        await broker.reachable()
        with structlog.testing.capture_logs() as logs:
            async with running(Mqtt, CameraFeed(), **at(broker, **values)) as shared:
                await until(lambda: metric(shared, UP, receiver="mqtt") == 1)
            assert not [each for each in logs if each["log_level"] == "warning"]
            secret.write_text("wrong\n")
            async with running(Mqtt, CameraFeed(), **at(broker, **values)):
                await until(lambda: any("is lost" in each["event"] for each in logs))
        assert "Not authorized" in str(logs)
        assert "wrong" not in str(logs)
    finally:
        broker.stop()


async def until(condition, seconds=PATIENCE_SECONDS):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_broker_on_another_machine_needs_tls_or_a_word():
    # Nobody knows where a name that cannot be resolved yet will lead.
    for host in ("192.0.2.1", "broker.invalid"):
        with pytest.raises(ConfigurationError, match=f"{host}:1883 is on another.*mqtt_tls"):
            door(mqtt_broker=host)
    door(mqtt_broker="localhost")
    door(mqtt_broker="192.0.2.1", mqtt_insecure=True)
    door(mqtt_broker="192.0.2.1", mqtt_tls=True)


def test_cameras_of_one_topic_are_refused():
    feed = CameraFeed()
    ShownCamera(feed, "Front door")
    ShownCamera(feed, "front-door")
    with pytest.raises(ConfigurationError, match="have the same name in topics, 'front_door'"):
        door(feed)


def test_secrets_that_make_no_sense_are_told_without_their_text(tmp_path):
    file = tmp_path / "password"
    with pytest.raises(ConfigurationError, match="cannot be read: .*No such file"):
        door(mqtt_user="me", mqtt_password_file=file)
    file.write_text("line one\nline two\n")
    with pytest.raises(ConfigurationError, match="is not one line") as raised:
        door(mqtt_user="me", mqtt_password_file=file)
    assert "line one" not in str(raised.value)
    with pytest.raises(ConfigurationError, match="TLS cannot use"):
        door(mqtt_tls=True, mqtt_ca=file)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mqtt_prefix": "a/+/b"}, "a topic has letters"),
        ({"mqtt_prefix": ""}, "a topic has letters"),
        ({"mqtt_home_assistant": "#"}, "a topic has letters"),
        ({"mqtt_broker": "host:99999"}, "the MQTT broker's address"),
        ({"mqtt_password_file": "secret"}, "mqtt_password_file needs mqtt_user"),
        ({"mqtt_ca": "ca.pem"}, "need mqtt_tls"),
        ({"webhooks": True}, "webhooks need webhook_targets"),
    ],
)
def test_bad_settings_are_told(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        settings(**values)


def door(feed=None, **values):
    shared = gateway(feed, mqtt=True, **values)
    return Mqtt(shared, EventMetrics(shared.registry))
