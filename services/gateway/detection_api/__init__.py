"""The door for single pictures over HTTP: `/v1/vision/detection`, `/detect`, and their page."""
