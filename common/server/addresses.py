"""Addresses: where a server listens, where settings say that stages are, and who calls."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from typing import List, Union
from urllib.parse import unquote

import grpc

from common.domain.address import Address, binding_fault, is_unix, parse_address, parse_host
from common.domain.errors import ConfigurationError, InvalidInputError

BACKBONE_PORT = 50051
TRANSFORMER_PORT = 50052
LOOPBACK = "127.0.0.1"

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


def checked_host(text: str) -> str:
    """A `host` setting, without the brackets of IPv6.

    Raises:
        ConfigurationError: it is no host.
    """
    try:
        return parse_host(text)
    except InvalidInputError as error:
        raise ConfigurationError(str(error)) from error


def tcp_host(host: str) -> str:
    """Where a server has its TCP ports, such as that of metrics: beside a Unix socket, loopback."""
    return LOOPBACK if is_unix(host) else host


def listen(server: grpc.aio.Server, host: str, port: int) -> Address:
    """Let a gRPC server listen.

    Args:
        server: not started yet.
        host: as `checked_host` returns it.
        port: 0 picks a free one.

    Returns:
        Where it can be reached; of all addresses of the machine, as `host` says.

    Raises:
        ConfigurationError: it cannot be bound, saying why.
    """
    # gRPC takes a Unix socket's path from whoever listens there; of a port it tells only that it
    # failed, and that in two lines of its own.
    fault = _socket_fault(host) if is_unix(host) else _port_fault(host, port)
    if fault:
        raise ConfigurationError(fault)
    # The zone of a link-local address stands behind a percent sign, which a URI escapes.
    target = str(Address(host, port)).replace("%", "%25")
    try:
        return Address(host, server.add_insecure_port(target))
    except RuntimeError as error:
        raise ConfigurationError(f"cannot listen on {Address(host, port)}") from error


def _port_fault(host: str, port: int) -> str:
    """Why a plain socket cannot be bound there; empty if it can, or if port 0 leaves the choice."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, _, _, _, address in found:
            with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
                # A port whose last connections are closing is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        return binding_fault(host, port, error)
    return ""


def _socket_fault(host: str) -> str:
    """Why gRPC cannot, or must not, listen at a Unix socket; empty if it can.

    A file that a server left there is none.
    """
    scheme, _, path = host.partition(":")
    folder = os.path.dirname(path) or "."
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        try:
            if scheme == "unix" and not os.access(folder, os.W_OK):
                os.stat(folder)
                raise PermissionError(errno.EACCES, "permission denied")
            probe.connect(path if scheme == "unix" else "\0" + path)
        except (ConnectionRefusedError, FileNotFoundError) as error:
            is_there = scheme != "unix" or os.path.isdir(folder)
            return "" if is_there else binding_fault(host, 0, error)
        except OSError as error:
            return binding_fault(host, 0, error)
    return binding_fault(host, 0, OSError(errno.EADDRINUSE, "in use"))


def host_of(peer: str) -> str:
    """The host part of a peer as gRPC names it; what one machine can have many of is one.

    `ipv4:1.2.3.4:5678` is `1.2.3.4`, also where it came over IPv6; `ipv6:%5B2001:db8::1%5D:5678` is
    its network of 64 bits, `2001:db8::/64`; all that call by Unix sockets are `unix`.
    """
    kind, _, rest = unquote(peer).partition(":")
    if kind.startswith("unix"):
        return "unix"
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host or peer
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_loopback:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False))
