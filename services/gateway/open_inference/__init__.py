"""The door for clients of inference servers: the Open Inference Protocol, version 2."""
