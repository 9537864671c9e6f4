"""Doors of a gateway without an orchestrator: what they tell comes from the feed alone."""

import asyncio
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from services.gateway.callers import Callers
from services.gateway.cameras.feed import CameraFeed
from services.gateway.detection_pool import DetectionPool
from services.gateway.door import Gateway
from services.gateway.events.outbox import EventMetrics
from services.gateway.picture_metrics import PictureMetrics
from services.gateway.settings import GatewaySettings
from tandem.client import DetectorClient


def settings(**values):
    return GatewaySettings(_cli_parse_args=False, cameras="cameras.yaml", **values)


def gateway(feed=None, **values):
    client, registry = DetectorClient("127.0.0.1:1"), CollectorRegistry()
    return Gateway(
        settings=settings(**values),
        client=client,
        pool=DetectionPool(client, 1, PictureMetrics(registry)),
        credentials=None,
        cameras=CameraFeed() if feed is None else feed,
        callers=Callers(None),
        registry=registry,
        draining=asyncio.Event(),
    )


@asynccontextmanager
async def running(door_class, feed, **values):
    """A door at work; what it raises ends the block."""
    shared = gateway(feed, **values)
    door = door_class(shared, EventMetrics(shared.registry))
    task = asyncio.create_task(door.run())
    try:
        yield shared
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def subscribed(feed):
    """Wait until a door watches the feed."""
    while not feed._subscriptions:
        await asyncio.sleep(0)
    await asyncio.sleep(0)


def metric(shared, name, **labels):
    return shared.registry.get_sample_value(name, labels)
