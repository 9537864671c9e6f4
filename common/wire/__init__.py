"""Protobuf <-> domain, and errors <-> gRPC statuses: the only code that knows both sides."""
