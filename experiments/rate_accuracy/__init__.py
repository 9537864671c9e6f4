"""Average precision against bytes a frame: encoded features, and the frame as JPEG."""
