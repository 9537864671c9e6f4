"""The Open Inference Protocol: package `inference`, as its clients know it."""
