"""The backbone service: frames in, features out to a transformer."""
