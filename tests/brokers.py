"""A real Mosquitto, which a test may stop and start at the same port; and who listens to it."""

import asyncio
import shutil
import socket
import subprocess
from contextlib import asynccontextmanager, suppress

import aiomqtt

from tests.waiting import PATIENCE_SECONDS

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
WHY_NOT = "Mosquitto is not installed: apt-get install mosquitto"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


class Mosquitto:
    """The broker; what it retains is lost when it stops, as without persistence."""

    def __init__(self, folder, *lines):
        self.port = free_port()
        self._configuration = folder / "mosquitto.conf"
        told = lines or ("allow_anonymous true",)
        self._configuration.write_text(
            "\n".join([f"listener {self.port} 127.0.0.1", "user root", *told]) + "\n"
        )
        self._log = folder / "mosquitto.log"
        self._process = None

    def start(self):
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [MOSQUITTO, "-c", str(self._configuration)], stdout=log, stderr=log
            )
        return self

    def stop(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    async def reachable(self):
        """Wait until it takes connections."""
        while self._process.poll() is None:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            await asyncio.sleep(0.02)
        raise RuntimeError(f"Mosquitto ended at once: {self._log.read_text()}")


class Listener:
    """All messages of a broker, in their order, and the latest of each topic."""

    def __init__(self):
        self.messages = []
        self.latest = {}
        self._come = asyncio.Condition()

    async def take(self, client):
        async for message in client.messages:
            topic, payload = str(message.topic), message.payload.decode()
            async with self._come:
                self.messages.append((topic, payload))
                self.latest[topic] = payload
                self._come.notify_all()

    async def until(self, condition, seconds=PATIENCE_SECONDS):
        async with asyncio.timeout(seconds), self._come:
            await self._come.wait_for(lambda: condition(self))

    def of(self, topic):
        return [payload for at, payload in self.messages if at == topic]


@asynccontextmanager
async def listening(broker, **access):
    """Everything that the broker is told while the block lasts, and what it had retained."""
    await broker.reachable()
    listener = Listener()
    async with aiomqtt.Client("127.0.0.1", broker.port, **access) as client:
        await client.subscribe("#", qos=1)
        taking = asyncio.create_task(listener.take(client))
        try:
            yield listener
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
