"""What both stage services run a frame through, between the wire and the engine."""
