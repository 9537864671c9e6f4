"""Frozen domain types and the error tree; depends on numpy alone."""
