"""Door: what happens before the cameras, for HTTP receivers; signed as Standard Webhooks are."""
