"""The transformers of one node that a name in the backbone's settings leads to."""

from __future__ import annotations

import asyncio
from typing import Callable, Dict, List, Set

from common.domain.errors import UnavailableError, shortened
from common.wire.channels import ServerChannel
from common.wire.records import NameRecords
from common.wire.resolver import LookUp

# More than an orchestrator uses of one name, so that it may choose any.
_MOST_ADDRESSES = 1024
# A server that the orchestrator has found already may take another lookup here.
_PATIENCE_SECONDS = 2.0


class FoundTransformers:
    """A channel to each server that the name leads to; it connects when it is first used.

    Streams to a server whose address is gone go on until they end by themselves.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[str], ServerChannel],
        look_up: LookUp,
        interval_seconds: float,
        on_failed_lookup: Callable[[], None],
    ) -> None:
        """Look nothing up yet; `run` does.

        Args:
            name: such as `dns:///transformer:50052`.
            connect: makes a channel to one address.
            look_up: asks for the name's addresses.
            interval_seconds: between two lookups.
            on_failed_lookup: called after each lookup that gave no addresses.
        """
        self._connect = connect
        self._on_failed_lookup = on_failed_lookup
        self._channels: Dict[str, ServerChannel] = {}
        self._leaving: Set[asyncio.Future[None]] = set()
        self._turn = 0
        self._records = NameRecords(
            *(name, look_up, interval_seconds),
            most_addresses=_MOST_ADDRESSES,
            on_answer=self._follow,
        )

    async def run(self) -> None:
        """Look the name up until cancelled."""
        await self._records.run()

    def look_soon(self) -> None:
        """A server was lost: the name may lead to others by now."""
        self._records.look_soon()

    def has(self, address: str) -> bool:
        """Whether the name leads to this address, by the latest answers."""
        return address in self._records.addresses

    async def find(self, address: str) -> bool:
        """Whether the name leads to this address; looks again before it says no."""
        if not self.has(address):
            await self._records.next_answer(_PATIENCE_SECONDS)
        return self.has(address)

    def channel(self, address: str) -> ServerChannel:
        """To one of the addresses that the name leads to."""
        if address not in self._channels:
            self._channels[address] = self._connect(address)
        return self._channels[address]

    async def in_turn(self) -> List[str]:
        """Every address, each time beginning with the next one.

        Raises:
            UnavailableError: the name leads nowhere.
        """
        if not self._records.addresses:
            await self._records.next_answer(_PATIENCE_SECONDS)
        addresses = self._records.addresses
        if not addresses:
            raise UnavailableError(self.told)
        self._turn = (self._turn + 1) % len(addresses)
        return [*addresses[self._turn :], *addresses[: self._turn]]

    @property
    def told(self) -> str:
        """What the name leads to, for messages."""
        records = self._records
        if not records.addresses:
            return f"{records.name} {records.fault or 'is being looked up'}"
        return shortened(f"{records.name} leads to {', '.join(records.addresses)}")

    async def close(self) -> None:
        """End all streams."""
        leaving = tuple(self._leaving)
        for each in leaving:
            each.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        for channel in self._channels.values():
            await channel.close()

    def _follow(self) -> None:
        if self._records.fault and not self._records.is_answered:
            self._on_failed_lookup()
        for address in [each for each in self._channels if not self.has(each)]:
            channel = self._channels.pop(address)
            leaving = asyncio.ensure_future(channel.close_after_calls())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
