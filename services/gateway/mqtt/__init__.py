"""Door: tells an MQTT broker what happens before the cameras, in Frigate's manner."""
