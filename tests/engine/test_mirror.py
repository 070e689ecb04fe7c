from __future__ import annotations

import numpy as np
import pytest
import torch

from voslab.core import CodecData, RawFrame
from voslab.engine.mirror import Mirror

IMAGE = np.zeros((2, 2, 3), np.uint8)


def test_past_and_future_change_places() -> None:
    motion = torch.arange(4.0).view(1, 4, 1, 1)
    references = torch.tensor([3, 8], dtype=torch.int32).view(1, 2, 1, 1)
    frame = RawFrame(5, IMAGE, CodecData("B", motion, references, live_refs=frozenset({3, 8})))
    mirrored = Mirror({}, 9).frame(frame)
    assert (mirrored.index, mirrored.image is IMAGE) == (4, True)
    assert mirrored.codec is not None
    assert mirrored.codec.motion is not None
    assert mirrored.codec.references is not None
    assert mirrored.codec.motion.flatten().tolist() == [2, 3, 0, 1]
    assert mirrored.codec.references.flatten().tolist() == [1, 6]
    assert mirrored.codec.references.dtype == torch.int32
    assert mirrored.codec.live_refs is None


def test_references_that_are_unused_or_not_segmented_are_unused() -> None:
    references = torch.tensor([[-1, 4], [9, 12]], dtype=torch.int32).view(1, 2, 1, 2)
    mirrored = Mirror({}, 9).frame(RawFrame(5, IMAGE, CodecData("B", references=references))).codec
    assert mirrored is not None
    assert mirrored.references is not None
    assert mirrored.references[0].squeeze(1).tolist() == [[0, -1], [-1, 5]]


def test_masks_are_found_by_their_mirrored_index() -> None:
    masks = {2: np.eye(2, dtype=np.uint8), 7: np.ones((2, 2), np.uint8)}
    mirror = Mirror(masks, 9)
    assert list(mirror) == [2, 7]
    assert mirror[2] is masks[7]
    assert mirror[7] is masks[2]
    assert mirror.get(3) is None
    with pytest.raises(KeyError):
        mirror[9]
