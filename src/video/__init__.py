"""Pictures and masks from files and folders, and back into them."""

from src.video.background import BackgroundWriter
from src.video.images import image_files, read_image, read_mask
from src.video.masks import read_masks
from src.video.palette import colour, palette
from src.video.reader import Video, open_video
from src.video.writer import VideoWriter, overlay, write_mask

__all__ = [
    "BackgroundWriter",
    "Video",
    "VideoWriter",
    "colour",
    "image_files",
    "open_video",
    "overlay",
    "palette",
    "read_image",
    "read_mask",
    "read_masks",
    "write_mask",
]
