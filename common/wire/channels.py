"""Connections to other parts of Tandem."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import grpc

from common.domain.address import parse_address

Options = Sequence[Tuple[str, Any]]

DIRECT_OPTIONS: List[Tuple[str, Any]] = [
    # What http_proxy and the like name leads out of the network that Tandem's parts share.
    ("grpc.enable_http_proxy", 0),
    # By default a machine that came back under another address is not found for 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
]
"""Of every connection between parts of Tandem, whatever the environment says."""


def open_channel(address: str, options: Options = ()) -> grpc.aio.Channel:
    """A channel to a server of Tandem's; it connects when it is first used.

    Args:
        address: in any spelling of `common.domain.address.parse_address`.
        options: more, for this channel.

    Raises:
        InvalidInputError: that is no address.
    """
    return grpc.aio.insecure_channel(parse_address(address).target, [*DIRECT_OPTIONS, *options])
