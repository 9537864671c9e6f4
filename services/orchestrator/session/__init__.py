"""One client's stream: each of its frames from its arrival to its answer."""
