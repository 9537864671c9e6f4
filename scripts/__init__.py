"""What developers and CI run; nothing here is installed."""
