"""From a DETR to a bundle: two ONNX halves, checked against the model."""

from detr.export.bundle import Description, ExportedBundle, export_bundle

__all__ = ["Description", "ExportedBundle", "export_bundle"]
