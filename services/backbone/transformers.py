"""The transformers that a backbone may stream features to, as its own settings name them."""

from __future__ import annotations

from itertools import chain
from typing import Dict, List, Mapping, Optional, Sequence

from common.domain.errors import PreconditionError
from common.domain.placement import Stage
from common.security.identity import Identity, Role
from common.security.tls import TlsFiles
from common.server.options import channel_options
from common.wire.channels import ServerChannel
from common.wire.stage_client import Metadata, StageStream
from protos.tandem.v1 import stage_pb2


class Transformers:
    """A channel to each of each node's transformers; it connects when it is first used."""

    def __init__(
        self,
        node: str,
        replicas: Mapping[str, Sequence[str]],
        message_bytes: int,
        tls: Optional[TlsFiles] = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            node: that the backbone runs on.
            replicas: the addresses of each node's transformers, by the node's name.
            message_bytes: the largest message that the backbone takes.
            tls: the certificates to connect by; None: no encryption.
        """
        self._node = node
        options = channel_options(message_bytes)
        self._channels: Dict[str, List[ServerChannel]] = {
            name: [
                ServerChannel(address, options, tls, Identity(Role.TRANSFORMER, name))
                for address in addresses
            ]
            for name, addresses in replicas.items()
        }

    async def open(
        self, opening: stage_pb2.BackboneOpen, bundle_digest: str, metadata: Metadata = ()
    ) -> StageStream:
        """Open a stream, by a call with `metadata`, to the transformer that an opening names.

        Raises:
            PreconditionError: the node or its transformer is unknown, or it runs another bundle.
            TandemError: it refused, or could not be reached in time.
        """
        channel = self._channel(opening.downstream_node, opening.downstream_replica)
        context = stage_pb2.StreamContext()
        context.CopyFrom(opening.context)
        context.sender = self._node
        request = stage_pb2.TransformerRequest(
            open=stage_pb2.TransformerOpen(
                context=context, bundle_digest=bundle_digest, without_category_names=True
            )
        )
        peer = f"transformer on {opening.downstream_node}"
        return await StageStream.open(channel.current, Stage.TRANSFORMER, request, peer, metadata)

    async def close(self) -> None:
        """Close every channel."""
        for channel in chain.from_iterable(self._channels.values()):
            await channel.close()

    def _channel(self, node: str, replica: int) -> ServerChannel:
        """To the transformer of this number on `node`."""
        own = f"backbone on {self._node}"
        if node not in self._channels:
            known = ", ".join(sorted(self._channels))
            raise PreconditionError(f"{own}: unknown downstream node {node!r}; known: {known}")
        replicas = self._channels[node]
        if replica >= len(replicas):
            raise PreconditionError(
                f"{own}: there is no transformer {replica} on {node}; it knows {len(replicas)}, "
                "numbered from 0"
            )
        return replicas[replica]
