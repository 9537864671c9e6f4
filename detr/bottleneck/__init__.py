"""The learned bottleneck: features to few integers and back, trained beside a frozen model."""
