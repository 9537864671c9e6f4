"""What real HTTP receivers get: signed, in order, again after a failure, and not for ever."""

import asyncio
import base64
import json
import time
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from common.domain.errors import ConfigurationError
from services.gateway.cameras.configuration import Reports
from services.gateway.cameras.feed import CameraFeed
from services.gateway.events.outbox import EventMetrics
from services.gateway.webhooks.delivery import TRIES, Delivery, signature
from services.gateway.webhooks.door import Webhooks
from services.gateway.webhooks.targets import Kind, Target, read_targets
from tests.unit.gateway.doors import running, subscribed
from tests.unit.gateway.frames import ShownCamera, found

KEY = b"sixteen bytes or more"


class Receiver:
    """An HTTP server that answers as it is told; 0: it takes a request and never answers."""

    def __init__(self, *statuses, headers=""):
        self.requests = []
        self._statuses = list(statuses)
        self._headers = headers
        self._come = asyncio.Condition()
        self._serving = set()
        self.url = ""

    @asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        try:
            yield self
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def got(self, count):
        async with asyncio.timeout(60), self._come:
            await self._come.wait_for(lambda: len(self.requests) >= count)

    @property
    def contents(self):
        return [json.loads(body) for _, body in self.requests]

    async def _serve(self, reader, writer):
        self._serving.add(asyncio.current_task())
        try:
            while line := await reader.readline():
                assert line == b"POST /hook HTTP/1.1\r\n"
                headers = {}
                while (line := await reader.readline()) != b"\r\n":
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers["content-length"]))
                async with self._come:
                    self.requests.append((headers, body))
                    self._come.notify_all()
                status = self._statuses.pop(0) if self._statuses else 200
                if not status:
                    await asyncio.Event().wait()
                answer = f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n{self._headers}\r\n"
                writer.write(answer.encode())
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def delivering(receiver, *, most_waiting=100, try_seconds=30.0):
    registry = CollectorRegistry()
    kinds = frozenset({Kind.EVENTS})
    target = Target("alarm", receiver.url, KEY, True, frozenset(), kinds)
    delivery = Delivery(
        *(target, most_waiting, EventMetrics(registry)),
        first_wait_seconds=0.001,
        try_seconds=try_seconds,
    )
    task = asyncio.create_task(delivery.run())
    try:
        yield delivery, lambda name: registry.get_sample_value(name, {"receiver": "webhook alarm"})
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_messages_are_signed_as_standard_webhooks_are():
    async with Receiver().running() as receiver, delivering(receiver) as (delivery, _):
        delivery.put("object.new", {"camera": "door"})
        await receiver.got(1)
    ((headers, body),) = receiver.requests
    assert json.loads(body)["type"] == "object.new"
    assert json.loads(body)["data"] == {"camera": "door"}
    assert headers["content-type"] == "application/json"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    expected = signature(KEY, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
    assert headers["webhook-signature"] == expected


def test_the_signature_is_that_of_the_specifications_example():
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    told = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert told == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_message_is_sent_again_under_its_id_until_it_is_taken():
    async with (
        Receiver(503, 429, 200).running() as receiver,
        delivering(receiver) as (delivery, metric),
    ):
        delivery.put("first", {})
        delivery.put("second", {})
        await receiver.got(4)
        await until(lambda: metric("tandem_events_sent_total") == 2)
        assert metric("tandem_events_lost_total") == 0
    assert [each["type"] for each in receiver.contents] == ["first"] * 3 + ["second"]
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 2


async def test_a_receiver_that_hangs_or_fails_for_too_long_costs_a_message_and_no_more():
    statuses = [0, *[500] * (TRIES - 1), 200]
    async with (
        Receiver(*statuses).running() as receiver,
        delivering(receiver, try_seconds=1.0) as (delivery, metric),
    ):
        delivery.put("first", {})
        delivery.put("second", {})
        await until(lambda: metric("tandem_events_sent_total") == 1)
        assert metric("tandem_events_lost_total") == 1
        assert metric("tandem_events_receiver_up") == 1
    assert [each["type"] for each in receiver.contents] == ["first"] * TRIES + ["second"]


@pytest.mark.parametrize("status", [301, 307, 400, 404])
async def test_redirects_are_not_followed_and_refusals_are_final(status):
    async with Receiver().running() as elsewhere:
        headers = f"location: {elsewhere.url}\r\n"
        async with (
            Receiver(status, headers=headers).running() as receiver,
            delivering(receiver) as (delivery, metric),
        ):
            delivery.put("first", {})
            delivery.put("second", {})
            await until(lambda: metric("tandem_events_sent_total") == 1)
            assert metric("tandem_events_lost_total") == 1
    assert [each["type"] for each in receiver.contents] == ["first", "second"]
    assert elsewhere.requests == []


async def test_what_waits_too_long_makes_room_for_newer_messages():
    async with (
        Receiver(0).running() as receiver,
        delivering(receiver, most_waiting=3) as (delivery, metric),
    ):
        delivery.put("on its way", {})
        await receiver.got(1)
        for number in range(5):
            delivery.put(f"number {number}", {})
        assert metric("tandem_events_waiting") == 3
        assert metric("tandem_events_lost_total") == 3


async def test_each_receiver_gets_what_it_is_to_get(tmp_path):
    feed = CameraFeed()
    one, two = ShownCamera(feed, "one", Reports.FRAMES), ShownCamera(feed, "two")
    async with Receiver().running() as events, Receiver().running() as rest:
        file = tmp_path / "webhooks.yaml"
        file.write_text(
            "webhooks:\n"
            f"- {{name: events, url: '{events.url}', cameras: [two]}}\n"
            f"- {{name: rest, url: '{rest.url}', cameras: [one], send: [counts, detections]}}\n"
        )
        async with running(Webhooks, feed, webhooks=True, webhook_targets=file):
            await subscribed(feed)
            one.show(found(1), times=3)
            two.show(found(1, label="cat"), times=3)
            await events.got(2)
            await rest.got(5)
    # A door that is closed says so of its objects.
    names = ["camera.available", "object.new", "object.end"]
    assert [each["type"] for each in events.contents] == names
    assert events.contents[1]["data"]["after"]["label"] == "cat"
    kinds = sorted(each["type"] for each in rest.contents)
    assert kinds == ["counts"] * 3 + ["detections"] * 3
    counts = [each["data"]["counts"] for each in rest.contents if each["type"] == "counts"]
    assert counts == [{}, {"person": 1}, {}]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("webhooks: []", "at least 1 item"),
        ("webhooks: [{name: a}]", "url: Field required"),
        ("webhooks: [{name: a, url: 'ftp://127.0.0.1/'}]", "no http:// or https:// URL"),
        ("webhooks: [{name: a, url: 'http://me:secret@127.0.0.1/'}]", "holds a user"),
        ("webhooks: [{name: a, url: 'http://192.0.2.1/'}]", "http:// has no TLS"),
        ("webhooks: [{name: a, url: 'http://home.invalid/'}]", "http:// has no TLS"),
        ("webhooks: [{name: a, url: 'http://127.0.0.1/', ca: no}]", "ca: a path is expected here"),
        ("webhooks: [{name: A b, url: 'http://127.0.0.1/'}]", "name: String should match"),
        ("webhooks: [{name: a, url: 'http://127.0.0.1/', send: [all]}]", "send.0: Input should be"),
        ("webhooks: [{name: a, url: 'http://127.0.0.1/', cameras: [x]}]", "no camera 'x'"),
        ("webhooks: [{name: a, url: 'http://127.0.0.1/', secret_file: none}]", "cannot be read"),
        ("webhooks: [{name: a, url: 'http://127.0.0.1/', secret_file: short}]", "less than 16"),
        ("webhooks: [{name: a, url: 'http://127.0.0.1/', secret_file: odd}]", "not Base64"),
        ("webhooks: [{name: a, url: 'https://192.0.2.1/', ca: none}]", "TLS cannot use"),
        ("webhooks: [{name: a, url: 'http://127.0.0.1/', typo: 1}]", "typo: Extra inputs"),
        ("- [", "is not YAML"),
    ],
)
def test_a_file_that_makes_no_sense_is_told_in_one_sentence(tmp_path, content, sentence):
    (tmp_path / "short").write_text("short secret\n")
    (tmp_path / "odd").write_text("whsec_!!!!\n")
    file = tmp_path / "webhooks.yaml"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=sentence) as raised:
        read_targets(file, frozenset({"one"}))
    assert "\n" not in str(raised.value)
    assert "secret@" not in str(raised.value)


def test_two_receivers_of_one_name_are_refused(tmp_path):
    file = tmp_path / "webhooks.yaml"
    one = "- {name: a, url: 'http://127.0.0.1/'}\n"
    file.write_text("webhooks:\n" + one + one)
    with pytest.raises(ConfigurationError, match="two webhooks are called 'a'"):
        read_targets(file, frozenset())
