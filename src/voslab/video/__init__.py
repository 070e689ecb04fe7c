"""Reads and writes videos, images and masks."""

from voslab.video.background_writer import BackgroundWriter
from voslab.video.images import image_files, read_image
from voslab.video.mask_formats.label_image import read_mask
from voslab.video.mask_formats.options import MaskOptions
from voslab.video.masks import given_masks, read_masks
from voslab.video.palette import colour, palette
from voslab.video.reader import Video, open_video
from voslab.video.video_writer import VideoWriter
from voslab.video.writer import overlay, write_mask

__all__ = [
    "BackgroundWriter",
    "MaskOptions",
    "Video",
    "VideoWriter",
    "colour",
    "given_masks",
    "image_files",
    "open_video",
    "overlay",
    "palette",
    "read_image",
    "read_mask",
    "read_masks",
    "write_mask",
]
