"""A laboratory for semi-supervised video object segmentation (VOS)."""
