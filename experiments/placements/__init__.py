"""The thesis's experiment (section 3.3): every backbone in every placement, on real services."""
