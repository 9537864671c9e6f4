"""The addresses that one name has, looked up again and again."""

from __future__ import annotations

import asyncio
import time
from typing import Callable, FrozenSet, Iterable, List, Sequence, Tuple

import structlog

from common.domain.address import parse_address
from common.domain.errors import UnavailableError
from common.wire.resolver import LookUp

log = structlog.get_logger()

DEFAULT_LOOKUP_SECONDS = 5.0
"""Between two lookups of a name, unless settings say otherwise."""

# However often news are wanted.
_LEAST_SECONDS = 1.0


class NameRecords:
    """The addresses of a name: those of the last answers, whatever order these have them in.

    An answer may leave out some of many records. So an address is gone when two answers in a row
    lack it. It stays while there is no answer, or an empty one: whether a server is there is for
    its health to say.

    Attributes:
        name: as the configuration has it, such as `dns:///transformer:50052`.
        addresses: `host:port` of each server; those that came first are first.
        fault: what is wrong with the latest answer, in words; empty if nothing is.
        is_answered: whether the latest lookup gave any addresses.
    """

    def __init__(
        self,
        name: str,
        look_up: LookUp,
        interval_seconds: float = DEFAULT_LOOKUP_SECONDS,
        *,
        most_addresses: int,
        of_one_family: bool = False,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        """Know nothing yet; `run` looks the name up.

        Args:
            name: that is looked up.
            look_up: asks for its addresses.
            interval_seconds: between two lookups.
            most_addresses: how many are used; those beyond are left out.
            of_one_family: whether those of IPv6 are left out where there are any of IPv4: a server
                that has both would count twice.
            on_answer: called after each lookup, successful or not.
        """
        self.name = name
        self.addresses: Tuple[str, ...] = ()
        self.fault = ""
        self.is_answered = False
        self._address = parse_address(name)
        self._look_up = look_up
        self._interval_seconds = interval_seconds
        self._most_addresses = most_addresses
        self._of_one_family = of_one_family
        self._on_answer = on_answer
        self._missing: FrozenSet[str] = frozenset()
        self._wanted = asyncio.Event()
        self._answered = asyncio.Event()

    async def run(self) -> None:
        """Look the name up until cancelled."""
        while True:
            looked_at = time.monotonic()
            await self._look()
            # Who waits from now on waits for the next.
            answered, self._answered = self._answered, asyncio.Event()
            answered.set()
            self._on_answer()
            await self._pause(looked_at)

    def look_soon(self) -> None:
        """Look the name up again now, but not more than once a second."""
        self._wanted.set()

    async def next_answer(self, patience_seconds: float) -> None:
        """Look the name up again, and wait for that for so long at most."""
        self.look_soon()
        waiting = asyncio.ensure_future(self._answered.wait())
        await asyncio.wait([waiting], timeout=patience_seconds)
        waiting.cancel()

    async def _pause(self, looked_at: float) -> None:
        # What one answer lacks is kept until the next, so that comes soon.
        least_seconds = min(_LEAST_SECONDS, self._interval_seconds)
        interval_seconds = least_seconds if self._missing else self._interval_seconds
        wanting = asyncio.ensure_future(self._wanted.wait())
        try:
            await asyncio.wait([wanting], timeout=interval_seconds)
        finally:
            wanting.cancel()
        self._wanted.clear()
        await asyncio.sleep(looked_at + least_seconds - time.monotonic())

    async def _look(self) -> None:
        try:
            found = await self._look_up(self._address.host, self._address.port)
        except UnavailableError as error:
            self.is_answered = False
            self._tell(f"cannot be looked up ({error})")
            return
        self.is_answered = bool(found)
        if not found:
            self._tell("has no address")
            return
        self._take(self._of_family(found))

    def _take(self, found: Sequence[str]) -> None:
        missing = frozenset(self.addresses).difference(found)
        gone = missing & self._missing
        self._missing = missing - gone
        staying = [each for each in self.addresses if each not in gone]
        new = [each for each in found if each not in staying]
        room = self._most_addresses - len(staying)
        taken, left_out = new[: max(0, room)], len(new[max(0, room) :])
        self._tell(f"has {len(found)} addresses, of which {left_out} are left out" * bool(left_out))
        self._change([*staying, *taken], taken, gone)

    def _change(self, addresses: List[str], added: Sequence[str], gone: Iterable[str]) -> None:
        if tuple(addresses) != self.addresses:
            log.info("name", name=self.name, added=[*added], gone=sorted(gone))
        self.addresses = tuple(addresses)

    def _tell(self, fault: str) -> None:
        if fault != self.fault:
            write = log.warning if fault else log.info
            write("name", name=self.name, fault=fault)
        self.fault = fault

    def _of_family(self, found: Sequence[str]) -> Sequence[str]:
        if not self._of_one_family:
            return found
        return [each for each in found if not each.startswith("[")] or found
