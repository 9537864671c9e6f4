"""Families of detection transformers: how each one's models are read, cut and exported."""
