"""Access units of H.264 and H.265: what they ask for and follow on, and their pictures."""
