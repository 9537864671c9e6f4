"""The connection to a broker, which comes back whenever it is lost."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiomqtt
import structlog

from common.domain.redaction import fit_to_show
from services.gateway.events.outbox import EventMetrics, Outbox
from services.gateway.mqtt.topics import OFFLINE, ONLINE, Topics

log = structlog.get_logger()

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 30.0
_TIMEOUT_SECONDS = 10.0
# A connection that lasted so long was one: the next wait is short again.
_STEADY_SECONDS = 15.0
# A broker that vanishes without a word is noticed, and the last will sent, within half a minute.
_KEEPALIVE_SECONDS = 20
_FAREWELL_SECONDS = 1.0
_FAREWELL_PAUSE_SECONDS = 0.02
_AT_MOST_ONCE, _AT_LEAST_ONCE = 0, 1
_MOST_TRIES = 3
# A broker sends at once what it has retained.
_TAKING_BACK_SECONDS = 2.0
RECEIVER = "mqtt"


@dataclass(frozen=True)
class BrokerAccess:
    """How the broker is reached.

    Attributes:
        host: its name or address.
        port: its port.
        user: who we are to it; empty: nobody.
        password: of the user.
        tls: by which the connection is encrypted; None: it is not.
    """

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None


@dataclass(eq=False)
class _Message:
    topic: str
    payload: bytes
    quality: int
    tries: int = 0


class Broker:
    """Sends messages to a broker.

    What is `shown` stays at the broker: of each topic the latest is sent, and all of them again
    after each connection. What is `told` is sent once, and waits while the broker is away.
    """

    def __init__(
        self,
        access: BrokerAccess,
        topics: Topics,
        counts: Sequence[str],
        most_waiting: int,
        metrics: EventMetrics,
    ) -> None:
        """Prepare.

        Args:
            access: how the broker is reached.
            topics: names of the topics.
            counts: filters of the topics that hold counts of ours.
            most_waiting: messages that may wait while the broker is away.
            metrics: that count what is sent and lost.
        """
        self._access = access
        self._topics = topics
        self._counts = tuple(counts)
        self._outbox: Outbox[_Message] = Outbox(RECEIVER, most_waiting, metrics)
        self._shown: dict[str, bytes] = {}
        self._changed: dict[str, None] = {}
        self._shown_changed = asyncio.Event()
        self._wait_seconds = _FIRST_WAIT_SECONDS

    def show(self, topic: str, payload: bytes) -> None:
        """Have the broker keep this for a topic."""
        if self._shown.get(topic) != payload:
            self._shown[topic] = payload
            self._changed[topic] = None
            self._shown_changed.set()

    def tell(self, topic: str, payload: bytes, *, surely: bool) -> None:
        """Send a message once.

        Args:
            topic: of the message.
            payload: its content.
            surely: the broker has to acknowledge it; it may get it twice then.
        """
        self._outbox.put(_Message(topic, payload, _AT_LEAST_ONCE if surely else _AT_MOST_ONCE))

    async def run(self) -> None:
        """Stay connected until cancelled; then say goodbye."""
        told = ""
        self._outbox.show_reachable(False)
        while True:
            began = time.monotonic()
            try:
                async with self._client() as client:
                    told = ""
                    await self._serve(client)
            except (aiomqtt.MqttError, OSError, ValueError) as error:
                if _is_cancelled():
                    # Parting failed, which took the place of the cancellation.
                    raise asyncio.CancelledError from error
                # Each outage is told once, and again when its reason changes.
                reason = fit_to_show(str(error))
                if reason != told:
                    log.warning("the MQTT broker is lost", reason=reason, broker=self._where)
                told = reason
            self._outbox.show_reachable(False)
            if time.monotonic() - began > _STEADY_SECONDS:
                self._wait_seconds = _FIRST_WAIT_SECONDS
            await asyncio.sleep(self._wait_seconds * random.uniform(0.75, 1.25))
            self._wait_seconds = min(2 * self._wait_seconds, _LONGEST_WAIT_SECONDS)

    @property
    def _where(self) -> str:
        return f"{self._access.host}:{self._access.port}"

    def _client(self) -> aiomqtt.Client:
        access = self._access
        return aiomqtt.Client(
            access.host,
            access.port,
            username=access.user or None,
            password=access.password or None,
            tls_context=access.tls,
            will=aiomqtt.Will(self._topics.available, OFFLINE, _AT_LEAST_ONCE, retain=True),
            keepalive=_KEEPALIVE_SECONDS,
            timeout=_TIMEOUT_SECONDS,
        )

    async def _serve(self, client: aiomqtt.Client) -> None:
        """Send what is there, until the connection is lost.

        Raises:
            aiomqtt.MqttError: it is.
        """
        log.info("connected to the MQTT broker", broker=self._where)
        self._changed = dict.fromkeys(self._shown)
        tasks: list[asyncio.Task[None]] = []
        try:
            await _publish(client, self._topics.available, ONLINE, retain=True)
            # What was lost meanwhile is told before anything else.
            self._outbox.show_reachable(True)
            await self._publish_status(client)
            tasks = [
                asyncio.create_task(each)
                for each in (self._keep_shown(client), self._send(client), self._listen(client))
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except asyncio.CancelledError:
            await self._part(client)
            raise
        finally:
            await _ended(tasks)

    async def _part(self, client: aiomqtt.Client) -> None:
        """Say that the gateway ends, after all else; the last will is for those that cannot."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                while self._outbox.waiting or self._changed:
                    await asyncio.sleep(_FAREWELL_PAUSE_SECONDS)
        # Whatever is left: a broker that is left in good order forgets the last will.
        with suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await client.publish(self._topics.available, OFFLINE, _AT_LEAST_ONCE, retain=True)

    async def _publish_status(self, client: aiomqtt.Client) -> None:
        status = json.dumps({"lost_messages": self._outbox.lost}).encode()
        await _publish(client, self._topics.status, status, retain=True)

    async def _keep_shown(self, client: aiomqtt.Client) -> None:
        while True:
            await self._publish_changes(client)
            self._shown_changed.clear()
            await self._shown_changed.wait()

    async def _publish_changes(self, client: aiomqtt.Client) -> None:
        while self._changed:
            topic = next(iter(self._changed))
            payload = self._shown[topic]
            await _publish(client, topic, payload, retain=True)
            # It may have changed meanwhile.
            if self._shown[topic] == payload:
                del self._changed[topic]

    async def _listen(self, client: aiomqtt.Client) -> None:
        """Once, look for old counts; the end of the messages is that of the connection."""
        if self._counts:
            # A broker that hangs up on whoever subscribes is not asked again.
            topics, self._counts = list(self._counts), ()
            await client.subscribe([(topic, _AT_LEAST_ONCE) for topic in topics])
            _stop_if_cancelled()
            with suppress(TimeoutError):
                async with asyncio.timeout(_TAKING_BACK_SECONDS):
                    async for message in client.messages:
                        self._take_back(message)
            await client.unsubscribe(topics)
            _stop_if_cancelled()
        async for _ in client.messages:
            pass

    def _take_back(self, message: aiomqtt.Message) -> None:
        """Show 0 where a gateway that was killed left a count: nobody knows of its objects."""
        topic, payload = str(message.topic), message.payload
        is_count = isinstance(payload, bytes) and payload.isdigit()
        if message.retain and is_count and topic not in self._shown:
            self.show(topic, b"0")

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            message = await self._outbox.next()
            # One that the broker hangs up on, such as a message too large for it, stops no other.
            if message.tries == _MOST_TRIES:
                self._outbox.refused()
                continue
            message.tries += 1
            await _publish(client, message.topic, message.payload, message.quality)
            self._outbox.taken()


async def _publish(
    client: aiomqtt.Client,
    topic: str,
    payload: bytes,
    quality: int = _AT_LEAST_ONCE,
    *,
    retain: bool = False,
) -> None:
    await client.publish(topic, payload, quality, retain)
    _stop_if_cancelled()


def _stop_if_cancelled() -> None:
    # aiomqtt waits by `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that
    # comes in the same moment as what it waits for.
    if _is_cancelled():
        raise asyncio.CancelledError


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
