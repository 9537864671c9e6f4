"""Addresses of stages, as settings give them: one, or a list of replicas."""

from __future__ import annotations

from typing import List, Union

from common.domain.address import parse_address
from common.domain.errors import InvalidInputError

BACKBONE_PORT = 50051
TRANSFORMER_PORT = 50052

Replicas = Union[str, List[str]]


def checked_replicas(told: Replicas, default_port: int) -> Replicas:
    """The same addresses, in the spelling that Tandem shows everywhere.

    Args:
        told: an address, or a list of them.
        default_port: of an address that is given without one.

    Raises:
        ValueError: one is no address; for pydantic, which names the setting.
    """
    if not isinstance(told, str):
        return [_checked(each, default_port) for each in told]
    return _checked(told, default_port)


def _checked(text: str, default_port: int) -> str:
    try:
        return str(parse_address(text, default_port))
    except InvalidInputError as error:
        raise ValueError(str(error)) from error
