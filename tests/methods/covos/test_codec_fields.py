from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from voslab.core import CodecData, Frame, VideoError
from voslab.methods.covos.codec_fields import is_key, to_quarter


def codec(height: int = 16, width: int = 24) -> CodecData:
    """Every block of 4x4 pixels moves by its own vector, in whole pixels."""
    cells = torch.arange(4 * (height // 4) * (width // 4)).view(1, 4, height // 4, width // 4).float() - 40
    motion = cells.repeat_interleave(4, 2).repeat_interleave(4, 3)
    references = torch.tensor([0, 4]).view(1, 2, 1, 1).expand(1, 2, height, width).short()
    return CodecData("B", motion, references, torch.full((1, 1, height, width), 0.25))


def frame(data: CodecData, height: int = 16, width: int = 24) -> Frame:
    return Frame(3, torch.zeros(1, 3, height, width), data, key=False)


def test_frames_without_codec_data_are_key() -> None:
    image = torch.zeros(1, 3, 16, 24)
    assert not is_key(Frame(0, image, codec(), key=False))
    assert is_key(Frame(0, image, codec(), key=True))
    assert is_key(Frame(0, image, None, key=False))
    assert is_key(Frame(0, image, CodecData("I"), key=False))


def test_vectors_of_pixels_become_vectors_of_cells() -> None:
    full = codec()
    fields = to_quarter(frame(full))
    assert fields.motion.shape == (1, 4, 4, 6)
    assert torch.equal(fields.motion, full.motion[..., ::4, ::4] / 4)
    assert fields.references.shape == (1, 2, 4, 6)
    assert fields.residual is not None
    assert torch.equal(fields.residual, torch.full((1, 1, 4, 6), 0.25))

    small = replace(full, motion=full.motion[..., ::4, ::4], references=full.references[..., ::4, ::4], residual=None)
    again = to_quarter(frame(small))
    assert torch.equal(again.motion, fields.motion)
    assert again.residual is None


def test_fields_of_another_size_are_refused_in_one_line() -> None:
    with pytest.raises(VideoError, match=r"^frame 3: motion has size 16x24, the frame 32x24$"):
        to_quarter(frame(codec(), 32, 24))
