"""All that needs torch: the model, weight import, export, training."""
