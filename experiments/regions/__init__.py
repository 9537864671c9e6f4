"""Whether a fixed camera is served faster by looking at what moved; decision 36 has the answer."""
