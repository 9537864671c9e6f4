"""Published weights to a DETR: the official `.pth`, and Hugging Face's safetensors."""

from detr.importing.checkpoint import ImportedModel, import_weights

__all__ = ["ImportedModel", "import_weights"]
