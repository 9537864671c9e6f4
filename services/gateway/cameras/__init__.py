"""The cameras that the gateway reads: their configuration, their streams, and who looks at them."""
