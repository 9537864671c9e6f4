"""What waits to be sent: a bounded number, and how much was lost is counted and told."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

log = structlog.get_logger()

T = TypeVar("T")


class EventMetrics:
    """Counts what the doors for events send; receivers are named by the configuration alone.

    Attributes:
        sent: messages that a receiver has taken.
        lost: messages that were given up.
        waiting: messages that wait to be sent.
        reachable: 1 while a receiver takes messages.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register them."""
        labels = ["receiver"]
        self.sent = Counter(
            "tandem_events_sent",
            "Messages that an MQTT broker or a webhook's receiver has taken.",
            labels,
            registry=registry,
        )
        self.lost = Counter(
            "tandem_events_lost",
            "Messages given up: too many waited, or the receiver did not take them.",
            labels,
            registry=registry,
        )
        self.waiting = Gauge(
            "tandem_events_waiting",
            "Messages that wait to be sent.",
            labels,
            registry=registry,
        )
        self.reachable = Gauge(
            "tandem_events_receiver_up",
            "1 while an MQTT broker or a webhook's receiver takes messages.",
            labels,
            registry=registry,
        )


class Outbox(Generic[T]):
    """Messages in their order; a further one takes the place of the oldest when there is no room.

    Attributes:
        lost: messages given up since the start.
    """

    def __init__(self, receiver: str, most_waiting: int, metrics: EventMetrics) -> None:
        """Nothing waits.

        Args:
            receiver: name of who is to get the messages, for metrics and logs.
            most_waiting: messages that may wait; at least 2.
            metrics: that count them.
        """
        self.lost = 0
        self._receiver = receiver
        self._most_waiting = most_waiting
        self._waiting: deque[T] = deque()
        self._in_hand = False
        self._come = asyncio.Event()
        self._lost_before = 0
        self._sent = metrics.sent.labels(receiver)
        self._lost = metrics.lost.labels(receiver)
        self._reachable = metrics.reachable.labels(receiver)
        metrics.waiting.labels(receiver).set_function(lambda: len(self._waiting))

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return len(self._waiting)

    def put(self, message: T) -> None:
        """Let a message wait; never blocks."""
        if len(self._waiting) >= self._most_waiting:
            # Not the one that is on its way.
            del self._waiting[1 if self._in_hand else 0]
            self._give_up()
        self._waiting.append(message)
        self._come.set()

    async def next(self) -> T:
        """Wait for the oldest message; it stays the first until it is `taken` or `refused`."""
        while not self._waiting:
            self._come.clear()
            await self._come.wait()
        self._in_hand = True
        return self._waiting[0]

    def taken(self) -> None:
        """The message that was `next` has been received."""
        self._sent.inc()
        self._drop_next()

    def refused(self) -> None:
        """The message that was `next` is given up."""
        self._drop_next()
        self._give_up()

    def _drop_next(self) -> None:
        self._waiting.popleft()
        self._in_hand = False

    def _give_up(self) -> None:
        if self.lost == self._lost_before:
            log.warning("messages are lost from now on", receiver=self._receiver)
        self.lost += 1
        self._lost.inc()

    def show_reachable(self, reachable: bool) -> None:
        """Note whether the receiver takes messages; after an outage, tell what was lost in it."""
        self._reachable.set(reachable)
        if reachable and self.lost > self._lost_before:
            count, self._lost_before = self.lost - self._lost_before, self.lost
            log.warning("messages were lost", receiver=self._receiver, count=count)
