"""What executes one half of the model; engines know tensors, never DETR."""
