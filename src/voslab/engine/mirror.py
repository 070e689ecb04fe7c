"""Mirrors frames and masks in time, so that a video is segmented backward by the same code as forward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from voslab.core import CodecData, RawFrame

Labels = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Mirror(Mapping[int, Labels]):
    """Label maps by mirrored index: index i becomes `last` - i.

    Attributes:
        masks: label maps by presentation index, which may be read on access.
        last: presentation index of the frame that comes first.
    """

    masks: Mapping[int, Labels]
    last: int

    def index(self, index: int) -> int:
        """Return the mirrored index of a frame, or the index of a mirrored frame."""
        return self.last - index

    def frame(self, frame: RawFrame) -> RawFrame:
        """Return a frame with mirrored indices; its past and its future reference change places."""
        codec = None if frame.codec is None else self._codec(frame.codec)
        return replace(frame, index=self.index(frame.index), codec=codec)

    def _codec(self, codec: CodecData) -> CodecData:
        motion, references = codec.motion, codec.references
        if motion is not None:
            motion = torch.cat([motion[:, 2:], motion[:, :2]], 1)
        if references is not None:
            flipped = references.flip(1)
            # Frames after `last` are not segmented.
            references = torch.where(flipped < 0, flipped, (self.last - flipped).clamp(min=-1))
        return replace(codec, motion=motion, references=references, live_refs=None)

    def __getitem__(self, index: int) -> Labels:
        return self.masks[self.index(index)]

    def __iter__(self) -> Iterator[int]:
        return map(self.index, sorted(self.masks, reverse=True))

    def __len__(self) -> int:
        return len(self.masks)
