"""How a client notices that a server is gone, and comes back to it: gRPC's options."""

# A server that vanished without a word is noticed within about 15 seconds, one that hangs (its
# kernel still acknowledges) within about 25; one that never was there within about 5.
CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 15_000),
    # By default the third ping without a message in between is put off.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # By default a server that comes back may be tried only two minutes later.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A connection of its own: another client's pause before its next try is not this one's.
    ("grpc.use_local_subchannel_pool", 1),
]
