"""Defines the result of segmenting a frame, and the throughput over frames."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prediction:
    """Result of the engine for one frame.

    Attributes:
        index: presentation index.
        image: H W 3 uint8, the source image.
        ids: H W int64, the user's object ids, 0 for background. Given masks are returned unchanged.
        seconds: time of the network and of the transfer to its device, without reading and writing.
        key: whether it is a key frame, which a base model segments (always, for sources without codec data).
        probabilities: O H W float32 in [0, 1], one map per object, at source size; None unless requested. The
            probability of the background is 1 minus their sum. They are 0 or 1 for objects whose mask was given.
        object_ids: the user's id of each map in `probabilities`.
        time: presentation time of the frame in seconds; None for sources without time stamps.
    """

    index: int
    image: NDArray[np.uint8]
    ids: NDArray[np.int64]
    seconds: float
    key: bool = True
    probabilities: NDArray[np.float32] | None = None
    object_ids: tuple[int, ...] = ()
    time: Fraction | None = None


@dataclass(slots=True)
class Throughput:
    """Counts frames and seconds of the network, the first frame included.

    Attributes:
        frames: number of frames.
        seconds: total time of the network.
        keys: number of key frames.
    """

    frames: int = 0
    seconds: float = 0.0
    keys: int = 0

    def add(self, prediction: Prediction) -> None:
        """Count one frame."""
        self.frames += 1
        self.seconds += prediction.seconds
        self.keys += prediction.key

    @property
    def frames_per_second(self) -> float:
        """Mean throughput; 0 before the first frame."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0
