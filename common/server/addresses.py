"""Addresses: where a server listens, where settings say that stages are, and who calls."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from typing import List, Optional, Union
from urllib.parse import unquote

import grpc

from common.domain.address import (
    Address,
    binding_fault,
    is_unix,
    parse_host,
    parse_replicas,
)
from common.domain.errors import ConfigurationError, InvalidInputError

BACKBONE_PORT = 50051
TRANSFORMER_PORT = 50052
LOOPBACK = "127.0.0.1"

Replicas = Union[str, List[str]]


def checked_replicas(told: Replicas, default_port: int) -> Replicas:
    """Check addresses and spell them as Tandem shows them everywhere.

    Args:
        told: an address or a name that leads to several, or a list of these.
        default_port: of an address that is given without one.

    Raises:
        ValueError: one of them is no address. Pydantic turns this into an error that names the
            setting.
    """
    if not isinstance(told, str):
        return [_checked(each, default_port) for each in told]
    return _checked(told, default_port)


def _checked(text: str, default_port: int) -> str:
    try:
        return parse_replicas(text, default_port)
    except InvalidInputError as error:
        raise ValueError(str(error)) from error


def checked_host(text: str) -> str:
    """Check a `host` setting and remove the brackets of an IPv6 address.

    Raises:
        ConfigurationError: it is no host.
    """
    try:
        return parse_host(text)
    except InvalidInputError as error:
        raise ConfigurationError(str(error)) from error


def tcp_host(host: str) -> str:
    """The host of a server's TCP ports, such as that of metrics; loopback with a Unix socket."""
    return LOOPBACK if is_unix(host) else host


def listen(
    server: grpc.aio.Server,
    host: str,
    port: int,
    credentials: Optional[grpc.ServerCredentials] = None,
) -> Address:
    """Let a gRPC server listen.

    Args:
        server: not started yet.
        host: as `checked_host` returns it.
        port: 0 picks a free one.
        credentials: of TLS; None: no encryption.

    Returns:
        The address that it listens on, with the port that was picked.

    Raises:
        ConfigurationError: the address cannot be bound; the message says why.
    """
    # gRPC would take a Unix socket's path from a server that listens there, and it does not say why
    # it cannot bind a port.
    fault = _socket_fault(host) if is_unix(host) else _port_fault(host, port)
    if fault:
        raise ConfigurationError(fault)
    # The zone of a link-local address stands behind a percent sign, which a URI escapes.
    target = str(Address(host, port)).replace("%", "%25")
    try:
        if credentials is None:
            return Address(host, server.add_insecure_port(target))
        return Address(host, server.add_secure_port(target, credentials))
    except RuntimeError as error:
        raise ConfigurationError(f"cannot listen on {Address(host, port)}") from error


def _port_fault(host: str, port: int) -> str:
    """Why a plain socket cannot be bound there; empty if it can."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, _, _, _, address in found:
            with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
                # A port whose last connections are still closing counts as free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        return binding_fault(host, port, error)
    return ""


def _socket_fault(host: str) -> str:
    """Why gRPC cannot, or must not, listen at a Unix socket; empty if it may.

    A file that a stopped server left there is no reason.
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
    """The host of a peer as gRPC names it; the many addresses of one machine count as one.

    `ipv4:1.2.3.4:5678` becomes `1.2.3.4`, also if it came over IPv6. An IPv6 address such as
    `ipv6:%5B2001:db8::1%5D:5678` becomes its network of 64 bits, `2001:db8::/64`. All callers over
    Unix sockets become `unix`.
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
