"""COCO average precision through running services: `tandem evaluate`."""
