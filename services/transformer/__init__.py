"""The transformer service: features in, detections out."""
