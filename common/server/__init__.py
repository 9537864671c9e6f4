"""What the stage services are made of: the stage server and client, the pipeline, settings."""
