"""Cache of propagated B-frames on disk, and training samples cropped from it."""
