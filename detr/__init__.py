"""DETR in torch: the model, weight import, export, training and distillation."""
