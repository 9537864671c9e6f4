"""Labelled scenes composed from open artwork and photographs: the demo model's training data."""
