"""The transformers that a backbone may stream features to, as its own settings name them."""

from __future__ import annotations

import asyncio
from typing import Awaitable, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from common.domain.address import leads_to_several
from common.domain.errors import PreconditionError, UnavailableError, shortened
from common.domain.placement import Stage
from common.security.identity import Identity, Role
from common.security.tls import TlsFiles
from common.server.options import channel_options
from common.wire.channels import ServerChannel
from common.wire.records import DEFAULT_LOOKUP_SECONDS
from common.wire.resolver import LookUp, SystemResolver
from common.wire.stage_client import Metadata, StageStream
from protos.tandem.v1 import stage_pb2
from services.backbone.found_transformers import FoundTransformers

Entry = Union[ServerChannel, FoundTransformers]


def _nobody_counts(node: str) -> None:
    """Nobody counts lookups that failed."""


class Transformers:
    """A channel to each of each node's transformers; it connects when it is first used."""

    def __init__(
        self,
        node: str,
        replicas: Mapping[str, Sequence[str]],
        message_bytes: int,
        tls: Optional[TlsFiles] = None,
        *,
        look_up: Optional[LookUp] = None,
        lookup_seconds: float = DEFAULT_LOOKUP_SECONDS,
        on_failed_lookup: Callable[[str], None] = _nobody_counts,
    ) -> None:
        """Connect to nothing yet.

        Args:
            node: that the backbone runs on.
            replicas: the addresses of each node's transformers, and names that lead to several, by
                the node's name.
            message_bytes: the largest message that the backbone takes.
            tls: the certificates to connect by; None: no encryption.
            look_up: asks for the addresses of names; the system's resolver if left out.
            lookup_seconds: between two lookups of a name.
            on_failed_lookup: called with a node of which a name could not be looked up.
        """
        self._node = node
        self._options = channel_options(message_bytes)
        self._tls = tls
        self._look_up = look_up or SystemResolver().look_up
        self._lookup_seconds = lookup_seconds
        self._on_failed_lookup = on_failed_lookup
        self._entries: Dict[str, List[Entry]] = {
            name: [self._entry(name, address) for address in addresses]
            for name, addresses in replicas.items()
        }

    async def run(self) -> None:
        """Look names up until cancelled."""
        looking = [each.run() for each in self._all if isinstance(each, FoundTransformers)]
        if looking:
            await asyncio.gather(*looking)
        else:
            await asyncio.Event().wait()

    async def open(
        self, opening: stage_pb2.BackboneOpen, bundle_digest: str, metadata: Metadata = ()
    ) -> StageStream:
        """Open a stream, by a call with `metadata`, to the transformer that an opening names.

        Raises:
            PreconditionError: the node or its transformer is unknown, or it runs another bundle.
            UnavailableError: no name of the settings leads to the address that the opening names.
            TandemError: it refused, or could not be reached in time.
        """
        context = stage_pb2.StreamContext()
        context.CopyFrom(opening.context)
        context.sender = self._node
        request = stage_pb2.TransformerRequest(
            open=stage_pb2.TransformerOpen(
                context=context, bundle_digest=bundle_digest, without_category_names=True
            )
        )

        async def opened(channel: ServerChannel) -> StageStream:
            peer = f"transformer on {opening.downstream_node}"
            current = channel.current
            return await StageStream.open(current, Stage.TRANSFORMER, request, peer, metadata)

        entries, entry = self._chosen(opening.downstream_node, opening.downstream_replica)
        address = opening.downstream_address
        found = await self._found(entries, entry, address) if address else None
        if found is not None:
            return await _or_look_again(found, opened(found.channel(address)))
        if isinstance(entry, ServerChannel):
            return await opened(entry)
        # Whoever asks knows nothing of what the name leads to.
        *others, last = await entry.in_turn()
        for each in others:
            try:
                return await _or_look_again(entry, opened(entry.channel(each)))
            except UnavailableError:
                continue
        return await _or_look_again(entry, opened(entry.channel(last)))

    async def close(self) -> None:
        """Close every channel."""
        for entry in self._all:
            await entry.close()

    @property
    def _all(self) -> Sequence[Entry]:
        return [entry for entries in self._entries.values() for entry in entries]

    def _entry(self, node: str, address: str) -> Entry:
        def connect(address: str) -> ServerChannel:
            identity = Identity(Role.TRANSFORMER, node)
            return ServerChannel(address, self._options, self._tls, identity)

        if not leads_to_several(address):
            return connect(address)
        return FoundTransformers(
            *(address, connect, self._look_up, self._lookup_seconds),
            on_failed_lookup=lambda: self._on_failed_lookup(node),
        )

    def _chosen(self, node: str, replica: int) -> Tuple[Sequence[Entry], Entry]:
        """All that is configured of `node`, and what has this number."""
        own = f"backbone on {self._node}"
        if node not in self._entries:
            known = ", ".join(sorted(self._entries))
            raise PreconditionError(f"{own}: unknown downstream node {node!r}; known: {known}")
        entries = self._entries[node]
        if replica >= len(entries):
            raise PreconditionError(
                f"{own}: there is no transformer {replica} on {node}; it knows {len(entries)}, "
                "numbered from 0"
            )
        return entries, entries[replica]

    async def _found(
        self, entries: Sequence[Entry], entry: Entry, address: str
    ) -> Optional[FoundTransformers]:
        """The name that leads to an address; None where the settings have an address instead.

        The address only picks one of those that were found here: nothing else is ever dialled.

        Raises:
            UnavailableError: no name leads to it.
        """
        names = [each for each in entries if isinstance(each, FoundTransformers)]
        for each in names:
            if each.has(address):
                return each
        if not isinstance(entry, FoundTransformers):
            return None
        if await entry.find(address):
            return entry
        raise UnavailableError(
            f"backbone on {self._node}: no transformer is known at {shortened(address)}; "
            f"{'; '.join(each.told for each in names)}"
        )


async def _or_look_again(found: FoundTransformers, opening: Awaitable[StageStream]) -> StageStream:
    """What is opened; where that cannot be reached, its name is looked up again."""
    try:
        return await opening
    except UnavailableError:
        found.look_soon()
        raise
