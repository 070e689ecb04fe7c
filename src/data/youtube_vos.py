"""YouTube-VOS training videos in their official layout."""

from __future__ import annotations

from pathlib import Path

from src.core import DataError
from src.data.sequence import Sequence
from src.video.images import image_files


def youtube_vos(root: Path | str, split: str = "train") -> tuple[Sequence, ...]:
    """List the videos of `root/<split>/JPEGImages` with the masks of `root/<split>/Annotations`, sorted by name.

    Frames are those of the folder (6 fps in `train`, 30 fps in `train_all_frames`, every fifth annotated); a frame
    without mask is not annotated. File names are frame numbers and need not start at 0.

    Raises:
        DataError: a folder is missing, or a mask belongs to no frame; the message says which.
    """
    folder = Path(root) / split
    frames, annotations = folder / "JPEGImages", folder / "Annotations"
    for needed in (frames, annotations):
        if not needed.is_dir():
            there = sorted(path.name for path in Path(root).glob("*") if path.is_dir())
            raise DataError(f"{needed}: no such folder; {root} holds {', '.join(there) or 'nothing'}")
    names = sorted(path.name for path in frames.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DataError(f"{frames}: holds no videos")
    return tuple(_video(frames / name, annotations / name) for name in names)


def _video(frames: Path, annotations: Path) -> Sequence:
    images = image_files(frames)
    masks = {path.stem: path for path in annotations.glob("*.png") if not path.name.startswith(".")}
    if not masks:
        raise DataError(f"{annotations}: no masks")
    if lost := sorted(masks.keys() - {image.stem for image in images}):
        raise DataError(f"{masks[lost[0]]}: there is no frame of that name in {frames}")
    return Sequence(frames.name, tuple(images), tuple(masks.get(image.stem) for image in images))
