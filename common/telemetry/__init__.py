"""Prometheus metrics, logs and sensors."""
