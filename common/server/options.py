"""How gRPC is set up between services: keepalive, message sizes, numbers of connections."""

from __future__ import annotations

import resource
from typing import Any, List, Tuple

from common.server.settings import ENVELOPE_BYTES, ServerSettings

# More open files would be of no use, and containers may allow a billion.
_MOST_FILES = 65_536
# Kept free for files, metrics and connections to other services.
_FILES_KEPT = 256
# How long a call may wait until this process takes it. By default gRPC ends it after 30 s with
# CANCELLED, which says nothing; one process takes a crowd's calls one by one, and may be starved.
_UNTAKEN_CALL_SECONDS = 300
# How many calls a connection may have beside its streams of frames.
_STREAMS_BESIDE = 64
_KEEPALIVE_OPTIONS: List[Tuple[str, Any]] = [
    # A machine or link that vanished without a word: after so long without data a ping is sent,
    # and TCP gives the connection up when the ping is not acknowledged within the second time.
    ("grpc.keepalive_time_ms", 1_500),
    ("grpc.keepalive_timeout_ms", 2_000),
    # A process that hangs, for whose kernel still acknowledges. The ping queues behind the frames
    # that a slow link has yet to carry: with 2 s, connections that were in use were given up.
    ("grpc.http2.ping_timeout_ms", 15_000),
    # An idle connection is found dead before a stream is opened on it.
    ("grpc.keepalive_permit_without_calls", 1),
    # By default the third ping without a message in between is put off, while an engine is at work.
    ("grpc.http2.max_pings_without_data", 0),
]


def channel_options(max_message_bytes: int) -> List[Tuple[str, Any]]:
    """Options of the channels from one service to another.

    Args:
        max_message_bytes: size of the largest message that the calling service accepts.
    """
    return [
        *_KEEPALIVE_OPTIONS,
        ("grpc.max_receive_message_length", max_message_bytes + ENVELOPE_BYTES),
        ("grpc.max_send_message_length", max_message_bytes + ENVELOPE_BYTES),
        # The defaults wait up to two minutes before a restarted stage is tried again.
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Also how long a connection may take to be made: a busy device needs more than the 100 ms.
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # It pings after every answer, to find out how large a buffer the link deserves. Answers are
        # small, and on a link of 64 kbit/s those pings take a sixth of it.
        ("grpc.http2.bdp_probe", 0),
    ]


def server_options(settings: ServerSettings) -> List[Tuple[str, Any]]:
    """Options of a service's own server."""
    max_message_bytes = settings.max_message_bytes
    return [
        *_KEEPALIVE_OPTIONS,
        # All streams of frames may use one connection, with health checks beside them.
        ("grpc.max_concurrent_streams", settings.max_sessions + _STREAMS_BESIDE),
        ("grpc.server_max_unrequested_time_in_server", _UNTAKEN_CALL_SECONDS),
        # File descriptors are needed for more than connections.
        ("grpc.max_allowed_incoming_connections", max_connections()),
        ("grpc.max_connection_idle_ms", 60_000),
        ("grpc.server_handshake_timeout_ms", 10_000),
        # How much gRPC buffers of a stream that is not being read. By default this grows with the
        # link, up to many megabytes a stream, which no budget would count.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", max(1 << 16, max_message_bytes >> 7)),
        # Pictures are compressed already, and a few compressed bytes may unpack to very many.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # Otherwise a second server on the same port would silently take half of the streams.
        ("grpc.so_reuseport", 0),
    ]


def raise_file_limit() -> None:
    """Raise this process's soft limit on open files to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def max_connections() -> int:
    """Connections that a server may take, so that descriptors are left for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _MOST_FILES if soft == resource.RLIM_INFINITY else min(soft, _MOST_FILES)
    return max(files // 2, files - 2 * _FILES_KEPT)
