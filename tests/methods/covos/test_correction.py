from __future__ import annotations

import pytest
import torch
from torch import Tensor

from voslab.methods.covos import correction
from voslab.methods.covos.correction import binarise, correct, dilate
from voslab.nn import affinity


def scene(batch: int = 2, objects: int = 2, seed: int = 0) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, objects + 1, (batch, 1, 5, 7), generator=rng)
    slots = torch.arange(1, objects + 1).view(1, -1, 1, 1)
    return {
        "probs": torch.rand(batch, objects, 5, 7, generator=rng) * 0.9,
        "slot_mask": torch.ones(batch, objects, dtype=torch.bool),
        "large": torch.rand(batch, 1, 5, 7, generator=rng) > 0.5,
        "features": torch.randn(batch, 16, 5, 7, generator=rng),
        "reference_probs": (labels == slots).float(),
        "reference_features": torch.randn(batch, 16, 5, 7, generator=rng),
    }


def slow(s: dict[str, Tensor]) -> Tensor:
    """Equations 1 and 2, cell by cell; the whole grid is near the foreground."""
    out = s["probs"].clone()
    for b, y, x in s["large"][:, 0].nonzero().tolist():
        query = s["features"][b, :, y, x]
        weights, values = [], []
        for i, j in s["reference_probs"][b].any(0).nonzero().tolist():
            key = s["reference_features"][b, :, i, j]
            weights.append(torch.exp((2 * key @ query - key @ key) / 16**0.5))
            values.append(s["reference_probs"][b, :, i, j])
        share = torch.stack(weights) / torch.stack(weights).sum()
        out[b, :, y, x] += (share.unsqueeze(1) * torch.stack(values)).sum(0)
    return out


def test_correction_equals_a_loop_over_cells() -> None:
    s = scene()
    out, selected = correct(**s)
    assert torch.equal(selected, s["large"])
    assert torch.allclose(out, slow(s), atol=1e-5)


def test_patches_add_at_most_one_and_never_subtract() -> None:
    s = scene()
    out, selected = correct(**s)
    added = (out - s["probs"]).sum(1, keepdim=True)
    assert torch.allclose(added, selected.float(), atol=1e-5)
    assert (out >= s["probs"]).all()
    assert out.max() > 1
    clipped, _ = correct(**s, clamp=True)
    assert torch.equal(clipped, out.clamp(0, 1))


def test_affinity_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    whole, _ = correct(**s)
    monkeypatch.setattr(affinity, "CHUNK", 40)
    parts, _ = correct(**s)
    assert torch.allclose(whole, parts, atol=1e-6)


def test_nothing_is_corrected_without_reference_foreground_clip_by_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    s["reference_probs"][0] = 0
    out, selected = correct(**s)
    assert torch.equal(out[0], s["probs"][0])
    assert not selected[0].any()
    assert selected[1].any()
    s["large"][:] = False
    monkeypatch.setattr(correction, "attend", None)
    out, selected = correct(**s)
    assert torch.equal(out, s["probs"])


def test_cells_far_from_the_foreground_are_unchanged() -> None:
    s = scene(batch=1)
    s["probs"][:] = 0
    s["probs"][0, 0, 2, 3] = 1
    s["large"][:] = True
    _, selected = correct(**s, radius=1)
    assert selected[0, 0].nonzero().tolist() == [[y, x] for y in (1, 2, 3) for x in (2, 3, 4)]
    _, selected = correct(**s, radius=0)
    assert selected.sum() == 1


def test_dilation_equals_two_9x9_boxes() -> None:
    mask = torch.rand(1, 1, 60, 70, generator=torch.Generator().manual_seed(0)) > 0.998
    box = torch.ones(1, 1, 9, 9)
    twice = mask.float()
    for _ in range(2):
        twice = torch.nn.functional.conv2d(twice, box, padding=4).clamp(0, 1)
    assert torch.equal(dilate(mask, 8), twice > 0)
    assert torch.equal(dilate(mask, 0), mask)


def test_residuals_are_compared_by_their_mean_over_channels() -> None:
    residual = torch.tensor([[0.06, 0.09, 0.0], [-0.06, 0.0, 0.0], [0.04, 0.04, -0.05]]).view(3, 3, 1, 1)
    assert binarise(residual, 0.05).flatten().tolist() == [False, False, False]
    assert binarise(residual, 0.04).flatten().tolist() == [True, False, True]
    assert binarise(residual[:, :1], 0.05).flatten().tolist() == [True, True, False]
    chosen = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    assert binarise(chosen, 0.5) is chosen
