"""The live view: a web page with the cameras, the nodes, and the placement."""
