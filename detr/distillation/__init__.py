"""Distillation: a smaller backbone, or a shorter encoder, that learns from a trained DETR."""
