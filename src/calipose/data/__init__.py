"""Training data: COCO files, the compact store, augmentation, synthetic people (no torch)."""
