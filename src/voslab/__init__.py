"""A laboratory for semi-supervised video object segmentation (VOS)."""

__version__ = "0.2.0"
