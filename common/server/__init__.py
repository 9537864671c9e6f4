"""The gRPC server of every service: settings, limits on streams and memory, health, drain."""
