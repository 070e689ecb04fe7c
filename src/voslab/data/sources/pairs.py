"""Generates videos of two objects, both with true masks, from pairs of sequences of DAVIS 2016."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voslab.core import ConfigError, generator
from voslab.data.sources.davis import davis
from voslab.data.sources.synthetic.build import build_once
from voslab.data.video_sequence import VideoSequence
from voslab.video import write_mask

Image8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
_STREAM = 2718281828
"""Part of the random key; a change would change the published data set."""
_SHIFTS = tuple(number / 8 for number in range(-6, 7))
"""Horizontal shifts of the pasted object that are tried, in widths of the frame."""
_APART, _VISIBLE = 0.05, 0.6
_BLUR = 1.0
"""Standard deviation in pixels of the seam between pasted object and scene."""


@dataclass(frozen=True)
class _Parameters:
    split: str
    clips: int
    seed: int
    version: int = 1


@dataclass(frozen=True)
class Pair:
    """A sequence with the object of another one pasted into it.

    Attributes:
        scene: Sequence whose frames are the background; its object has id 1.
        pasted: Sequence whose object is pasted, with id 2.
        in_front: Whether the pasted object occludes that of the scene; otherwise it is occluded.
        mirror: Whether the pasted object is mirrored.
        shift: Columns by which the pasted object is moved to the right.
    """

    scene: VideoSequence
    pasted: VideoSequence
    in_front: bool
    mirror: bool
    shift: int

    @property
    def name(self) -> str:
        """The occluding object's sequence, `_over_`, and that of the other."""
        front, behind = (self.pasted, self.scene) if self.in_front else (self.scene, self.pasted)
        return f"{front.name}_over_{behind.name}"

    def __len__(self) -> int:
        return min(len(self.scene), len(self.pasted))

    def masks(self, index: int) -> tuple[Mask, Mask]:
        """Return the masks of both objects in a frame without occlusion, H W each."""
        own, other = (sequence.labels(index) for sequence in (self.scene, self.pasted))
        assert own is not None
        assert other is not None
        return own == 1, self._moved((other == 1).astype(np.uint8), own.shape[:2], cv2.INTER_NEAREST) > 0

    def frame(self, index: int) -> tuple[Image8, Image8]:
        """Compose a frame.

        Args:
            index: Index of the frame in both sequences.

        Returns:
            Image, H W 3, and label map, H W.
        """
        scene = self.scene.image(index)
        own, other = self.masks(index)
        shown = other if self.in_front else other & ~own
        # Blurred inside of the mask only, so that nothing around the object is pasted.
        alpha = cv2.GaussianBlur(shown.astype(np.float32), (0, 0), _BLUR) * shown
        pasted = self._moved(self.pasted.image(index), scene.shape[:2], cv2.INTER_LINEAR)
        image: NDArray[np.float32] = scene + alpha[..., None] * (pasted.astype(np.float32) - scene)
        return image.round().astype(np.uint8), np.where(shown, 2, own).astype(np.uint8)

    def _moved(self, image: Image8, size: tuple[int, ...], interpolation: int) -> Image8:
        """Scale to the size of the scene, mirror and shift; 0 where nothing is."""
        scaled = cv2.resize(image, (size[1], size[0]), interpolation=interpolation)
        turned = scaled[:, ::-1] if self.mirror else scaled
        result: Image8 = np.zeros(turned.shape, np.uint8)
        target, source = slice(max(self.shift, 0), None), slice(max(-self.shift, 0), None)
        columns = size[1] - abs(self.shift)
        result[:, target][:, :columns] = turned[:, source][:, :columns]
        return result


def davis_pairs(
    root: Path | str,
    davis_root: Path | str,
    split: str = "val",
    clips: int = 10,
    seed: int = 0,
) -> tuple[VideoSequence, ...]:
    """List videos of two objects that are composed of two sequences of DAVIS 2016 each.

    The object of one sequence is pasted into the frames of another, in every second video in front of its object and in
    the others behind it, so that the order of occlusion and both masks are known. A video is as long as the shorter
    sequence. Of the mirrored and shifted positions in which the objects are apart in frame 0 and most of the pasted one
    is visible, that in which they overlap in most frames is used.

    The videos are generated on first use in the layout of DAVIS 2017.

    Args:
        root: Folder of the generated data set, a different one for each combination of the other arguments.
        davis_root: Folder of DAVIS 2016.
        split: Split of the sequences; each takes part in one video at most.
        clips: Number of videos, at most half the number of sequences.
        seed: Seed of the pairing.

    Returns:
        The sequences, named `FRONT_over_BEHIND`.

    Raises:
        ConfigError: If there are too few sequences.
        DataError: If `root` holds other files, or data generated with other parameters.
        MissingDataSetError: If DAVIS is not there.
        WriteError: If the data set cannot be written.
    """
    sequences = davis(davis_root, 2016, split)
    if not 1 <= clips <= len(sequences) // 2:
        raise ConfigError(
            f"clips={clips}: {split} has {len(sequences)} sequences, enough for {len(sequences) // 2} pairs"
        )
    write = partial(_write, sequences=sequences, split=split, clips=clips, seed=seed)
    return davis(build_once(Path(root), _Parameters(split, clips, seed), write), 2017, split)


def _write(root: Path, sequences: tuple[VideoSequence, ...], split: str, clips: int, seed: int) -> None:
    names = []
    for pair in _pairs(sequences, clips, seed):
        names.append(pair.name)
        images, masks = root / "JPEGImages" / "480p" / pair.name, root / "Annotations" / "480p" / pair.name
        images.mkdir(parents=True)
        for index in range(len(pair)):
            image, labels = pair.frame(index)
            Image.fromarray(image).save(images / f"{index:05d}.jpg", quality=92)
            write_mask(masks / f"{index:05d}.png", labels)
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def _pairs(sequences: tuple[VideoSequence, ...], clips: int, seed: int) -> Iterator[Pair]:
    order = generator(seed, _STREAM).permutation(len(sequences))
    for number in range(clips):
        scene, pasted = (sequences[i] for i in order[2 * number : 2 * number + 2])
        yield place(scene, pasted, in_front=number % 2 == 0)


def place(scene: VideoSequence, pasted: VideoSequence, in_front: bool) -> Pair:
    """Choose where an object is pasted.

    Args:
        scene: Sequence whose frames are the background.
        pasted: Sequence whose object is pasted.
        in_front: Whether the pasted object occludes that of the scene.

    Returns:
        The position in which the objects meet most often, of those in which they are apart in frame 0. If there is
        none, the position in which they overlap least there.
    """
    width = scene.image(0).shape[1]
    pairs = [
        Pair(scene, pasted, in_front, mirror, round(shift * width)) for mirror in (False, True) for shift in _SHIFTS
    ]
    whole = int(Pair(scene, pasted, in_front, False, 0).masks(0)[1].sum())
    ranks: list[tuple[bool, float]] = []
    for pair in pairs:
        own, other = pair.masks(0)
        smaller = max(1, min(int(own.sum()), int(other.sum())))
        hidden = int(other.sum()) < _VISIBLE * whole
        ranks.append((hidden, int((own & other).sum()) / smaller))
    apart = [pair for pair, rank in zip(pairs, ranks, strict=True) if rank <= (False, _APART)]
    return max(apart, key=_meetings) if apart else pairs[ranks.index(min(ranks))]


def _meetings(pair: Pair) -> int:
    """Return the number of frames in which the objects overlap, of every fourth frame."""
    return sum(bool(np.logical_and(*pair.masks(index)).any()) for index in range(0, len(pair), 4))
