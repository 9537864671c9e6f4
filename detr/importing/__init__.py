"""Published weights to a DETR: the official `.pth`, and Hugging Face's safetensors."""

from detr.importing.checkpoint import ImportedModel, import_weights
from detr.importing.starting import start_backbone, start_from

__all__ = ["ImportedModel", "import_weights", "start_backbone", "start_from"]
