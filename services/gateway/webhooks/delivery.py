"""Sends one receiver its messages: in order, signed, and again for a while if need be."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx2
import structlog

from common.domain.redaction import fit_to_show
from services.gateway.events.outbox import EventMetrics, Outbox
from services.gateway.webhooks.targets import Target

log = structlog.get_logger()

TRIES = 5
_FIRST_WAIT_SECONDS = 1.0
_TRY_SECONDS = 10.0
# What may succeed later: too early, too many, and all that is the receiver's own fault.
_AGAIN = frozenset({408, 425, 429})


@dataclass(frozen=True, eq=False)
class _Message:
    message_id: str
    body: bytes


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """HMAC-SHA256 as Standard Webhooks have it.

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class Delivery:
    """The messages of one receiver."""

    def __init__(
        self,
        target: Target,
        most_waiting: int,
        metrics: EventMetrics,
        first_wait_seconds: float = _FIRST_WAIT_SECONDS,
        try_seconds: float = _TRY_SECONDS,
    ) -> None:
        """Prepare.

        Args:
            target: the receiver.
            most_waiting: messages that may wait for it.
            metrics: that count what is sent and lost.
            first_wait_seconds: before the second try; each further wait is twice as long.
            try_seconds: that one try may take.
        """
        self.target = target
        self._outbox: Outbox[_Message] = Outbox(f"webhook {target.name}", most_waiting, metrics)
        self._first_wait_seconds = first_wait_seconds
        self._try_seconds = try_seconds
        self._told = ""

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return self._outbox.waiting

    def put(self, kind: str, data: Mapping[str, Any]) -> None:
        """Let a message wait to be sent; `kind` is its type, `data` its content."""
        content = {"type": kind, "timestamp": datetime.now(UTC).isoformat(), "data": data}
        body = json.dumps(content, separators=(",", ":")).encode()
        self._outbox.put(_Message(f"msg_{uuid.uuid4().hex}", body))

    async def run(self) -> None:
        """Send until cancelled."""
        self._outbox.show_reachable(False)
        # Neither proxies nor certificates of the environment, and no other host than the one named.
        async with httpx2.AsyncClient(
            verify=self.target.tls,
            trust_env=False,
            follow_redirects=False,
            timeout=self._try_seconds,
            limits=httpx2.Limits(max_connections=1),
        ) as client:
            while True:
                message = await self._outbox.next()
                if await self._delivered(client, message):
                    self._outbox.taken()
                    self._outbox.show_reachable(True)
                    self._told = ""
                else:
                    self._outbox.refused()

    async def _delivered(self, client: httpx2.AsyncClient, message: _Message) -> bool:
        wait_seconds = self._first_wait_seconds
        for number in range(TRIES):
            if number:
                await asyncio.sleep(wait_seconds * random.uniform(0.75, 1.25))
                wait_seconds *= 2
            try:
                status = await self._post(client, message)
            except (httpx2.HTTPError, TimeoutError, OSError) as error:
                self._fail(fit_to_show(str(error)) or type(error).__name__)
                continue
            if 200 <= status < 300:
                return True
            self._fail(f"it answers {status}")
            if status < 500 and status not in _AGAIN:
                return False
        return False

    async def _post(self, client: httpx2.AsyncClient, message: _Message) -> int:
        """One try; returns the answer's status, and reads no further."""
        now = int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": "Tandem",
            "webhook-id": message.message_id,
            "webhook-timestamp": str(now),
        }
        if self.target.key:
            headers["webhook-signature"] = signature(
                self.target.key, message.message_id, now, message.body
            )
        # The client's own limit is for each part of a try.
        async with asyncio.timeout(self._try_seconds):
            async with client.stream(
                "POST", self.target.url, content=message.body, headers=headers
            ) as response:
                return response.status_code

    def _fail(self, reason: str) -> None:
        self._outbox.show_reachable(False)
        # Each outage is told once, and again when its reason changes.
        if reason != self._told:
            log.warning("a webhook fails", webhook=self.target.name, reason=reason)
        self._told = reason
