"""Training DETR: set prediction with Hungarian matching (DETR paper, section 3.1)."""
