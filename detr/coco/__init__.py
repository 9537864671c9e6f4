"""COCO data sets: reading and checking them, their categories, and average precision. No torch."""
