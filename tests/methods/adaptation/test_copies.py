from __future__ import annotations

import torch

from voslab.core import Frame, Masks
from voslab.methods.adaptation.copies import augmented


def disc(y: float, x: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(90.0), indexing="ij")
    return (((rows - y) ** 2 + (columns - x) ** 2) < 12**2).float()


def test_image_and_masks_move_together_and_copies_differ() -> None:
    mask = disc(25, 30)
    frame = Frame(3, (0.2 + 0.5 * mask).expand(1, 3, 60, 90))
    masks = Masks(mask.view(1, 1, 60, 90), torch.ones(1, 1, dtype=torch.bool))
    centres = []
    for seed in range(4):
        copy, moved = augmented(frame, masks, seed)
        assert copy.index == 3
        bright = copy.image[0, 0] > copy.image[0, 0].aminmax().min + 0.5 * (copy.image.max() - copy.image.min())
        assert (bright == (moved.probs[0, 0] > 0.5)).float().mean() > 0.99
        share = float(moved.probs.mean() / mask.mean())
        assert 0.5 < share < 2
        columns = (moved.probs[0, 0].sum(0) * torch.arange(90.0)).sum() / moved.probs.sum()
        centres.append(float(columns))
    assert len({round(centre) for centre in centres}) > 1
    assert min(centres) < 45 < max(centres), "every second copy is flipped"


def test_a_round_object_stays_round() -> None:
    mask = disc(30, 45)
    masks = Masks(mask.view(1, 1, 60, 90), torch.ones(1, 1, dtype=torch.bool))
    for seed in range(4):
        _, moved = augmented(Frame(0, torch.zeros(1, 3, 60, 90)), masks, seed)
        inside = moved.probs[0, 0] > 0.5
        height, width = (int(inside.any(axis).sum()) for axis in (1, 0))
        assert abs(height - width) <= 1
