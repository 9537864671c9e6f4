"""The wire: protocol buffers and their generated Python stubs."""
