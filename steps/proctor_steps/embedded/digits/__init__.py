"""The demo: handwritten digits in COCO format, and a detector for them."""
