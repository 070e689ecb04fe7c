from __future__ import annotations

import torch

from voslab.core import Coded
from voslab.engine.codec_resize import resize_coded
from voslab.engine.padding import Pads, pad_coded


def coded(height: int = 16, width: int = 24) -> Coded:
    """Every block of 4x4 pixels moves by its own vector, in whole pixels."""
    cells = torch.arange(4 * (height // 4) * (width // 4)).view(1, 4, height // 4, width // 4).float() - 40
    motion = cells.repeat_interleave(4, 2).repeat_interleave(4, 3)
    references = torch.tensor([0, 4]).view(1, 2, 1, 1).expand(1, 2, height, width).int()
    return Coded("B", motion, references, torch.full((1, 1, height, width), 0.25))


def test_resized_fields_point_to_the_same_places() -> None:
    made = resize_coded(coded(), (16, 24), (8, 48))
    assert made.motion is not None
    assert torch.equal(made.motion[:, 0], coded().motion[:, 0, ::2].repeat_interleave(2, 2) * 2)
    assert torch.equal(made.motion[:, 3], coded().motion[:, 3, ::2].repeat_interleave(2, 2) / 2)
    assert made.references is not None
    assert made.references.dtype == torch.int32
    assert made.references.shape == (1, 2, 8, 48)
    assert made.residual is not None
    assert torch.allclose(made.residual, torch.full((1, 1, 8, 48), 0.25))
    assert resize_coded(Coded("I"), (16, 24), (8, 48)) == Coded("I")


def test_vectors_on_a_coarser_grid_are_as_long() -> None:
    whole = coded()
    assert whole.motion is not None
    assert whole.references is not None
    quarter = Coded("B", whole.motion[..., 2::4, 2::4], whole.references[..., 2::4, 2::4])
    for size in ((16, 24), (8, 48)):
        fine, coarse = (resize_coded(one, (16, 24), size) for one in (whole, quarter))
        assert fine.motion is not None
        assert coarse.motion is not None
        assert torch.equal(coarse.motion, fine.motion)
        assert coarse.references is not None
        assert coarse.references.shape == (1, 2, *size)


def test_nothing_refers_anywhere_from_the_padding() -> None:
    made = pad_coded(coded(), Pads(1, 7, 0, 4))
    assert made.motion is not None
    assert made.motion.shape == (1, 4, 20, 32)
    assert torch.equal(made.motion[..., :16, 1:25], coded().motion)
    assert made.references is not None
    assert (made.references[..., 0] == -1).all()
    assert (made.references[..., 16:, :] == -1).all()
    assert made.residual is not None
    assert made.residual[..., 25:].abs().max() == 0
    assert pad_coded(Coded("P"), Pads(1, 1, 1, 1)) == Coded("P")
