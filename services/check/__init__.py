"""Checks an engine on this device before any stage runs on it; it serves nothing."""
