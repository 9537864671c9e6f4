"""Stage services whose engine does what a test tells it to; everything else is the real thing."""
