from __future__ import annotations

import torch

from voslab.core import CodecData
from voslab.engine.codec_resize import fit_codec
from voslab.engine.padding import Pads

NO_PADS = Pads(0, 0, 0, 0)


def codec(height: int = 16, width: int = 24) -> CodecData:
    """Every block of 4x4 pixels moves by its own vector, in whole pixels."""
    cells = torch.arange(4 * (height // 4) * (width // 4)).view(1, 4, height // 4, width // 4).float() - 40
    motion = cells.repeat_interleave(4, 2).repeat_interleave(4, 3)
    references = torch.tensor([0, 4]).view(1, 2, 1, 1).expand(1, 2, height, width).int()
    return CodecData("B", motion, references, torch.full((1, 1, height, width), 0.25))


def test_resized_vectors_point_to_the_same_positions() -> None:
    fitted = fit_codec(codec(), (16, 24), (8, 48), NO_PADS)
    assert fitted.motion is not None
    assert torch.equal(fitted.motion[:, 0], codec().motion[:, 0, ::2].repeat_interleave(2, 2) * 2)
    assert torch.equal(fitted.motion[:, 3], codec().motion[:, 3, ::2].repeat_interleave(2, 2) / 2)
    assert fitted.references is not None
    assert fitted.references.dtype == torch.int32
    assert fitted.references.shape == (1, 2, 8, 48)
    assert fitted.residual is not None
    assert torch.allclose(fitted.residual, torch.full((1, 1, 8, 48), 0.25))
    assert fit_codec(CodecData("I"), (16, 24), (8, 48), NO_PADS) == CodecData("I")


def test_vectors_on_a_coarser_grid_are_as_long() -> None:
    whole = codec()
    assert whole.motion is not None
    assert whole.references is not None
    quarter = CodecData("B", whole.motion[..., 2::4, 2::4], whole.references[..., 2::4, 2::4])
    for size in ((16, 24), (8, 48)):
        fine, coarse = (fit_codec(one, (16, 24), size, NO_PADS) for one in (whole, quarter))
        assert fine.motion is not None
        assert coarse.motion is not None
        assert torch.equal(coarse.motion, fine.motion)
        assert coarse.references is not None
        assert coarse.references.shape == (1, 2, *size)


def test_nothing_refers_anywhere_from_the_padding() -> None:
    fitted = fit_codec(codec(), (16, 24), (16, 24), Pads(1, 7, 0, 4))
    assert fitted.motion is not None
    assert fitted.motion.shape == (1, 4, 20, 32)
    assert torch.equal(fitted.motion[..., :16, 1:25], codec().motion)
    assert fitted.references is not None
    assert (fitted.references[..., 0] == -1).all()
    assert (fitted.references[..., 16:, :] == -1).all()
    assert fitted.residual is not None
    assert fitted.residual[..., 25:].abs().max() == 0
    assert fit_codec(CodecData("P"), (16, 24), (16, 24), Pads(1, 1, 1, 1)) == CodecData("P")


def test_cells_are_sampled_at_their_centres() -> None:
    pads = Pads(1, 7, 3, 5)
    pixels, cells = (fit_codec(codec(), (16, 24), (8, 48), pads, stride) for stride in (1, 4))
    for fine, coarse in ((pixels.motion, cells.motion), (pixels.references, cells.references)):
        assert fine is not None
        assert coarse is not None
        assert torch.equal(coarse, fine[..., 2::4, 2::4])
    assert pixels.residual is not None
    assert cells.residual is not None
    assert torch.equal(pixels.residual, cells.residual)
