"""Binding a server's address, and saying why it cannot be bound."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

import grpc

from common.domain.address import Address, binding_fault, is_unix, parse_host
from common.domain.errors import ConfigurationError, InvalidInputError

LOOPBACK = "127.0.0.1"


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
    obstacle = _socket_obstacle(host) if is_unix(host) else _obstacle(host, port)
    if obstacle:
        raise ConfigurationError(obstacle)
    # The zone of a link-local address stands behind a percent sign, which a URI escapes.
    target = str(Address(host, port)).replace("%", "%25")
    try:
        return Address(host, server.add_insecure_port(target))
    except RuntimeError as error:
        raise ConfigurationError(f"cannot listen on {Address(host, port)}") from error


def _obstacle(host: str, port: int) -> str:
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


def _socket_obstacle(host: str) -> str:
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
