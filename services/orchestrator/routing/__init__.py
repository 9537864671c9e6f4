"""Which servers a frame goes through, of those that are available now."""
