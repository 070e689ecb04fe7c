from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from voslab.methods.covos import correction
from voslab.methods.covos.correction import Reference, binarise, correct, dilate
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


def slow(s: dict[str, Tensor], reference: str = "foreground", scale: float = 16**-0.5) -> Tensor:
    """The correction cell by cell; the whole grid is near the foreground.

    The defaults are the published code. All positions with a scale of 1 are Eq. 1 and 2 of the supplement.
    """
    out = s["probs"].clone()
    for b, y, x in s["large"][:, 0].nonzero().tolist():
        query = s["features"][b, :, y, x]
        similarities, values = [], []
        for i, j in itertools.product(range(5), range(7)):
            if reference == "all" or s["reference_probs"][b, :, i, j].any():
                key = s["reference_features"][b, :, i, j]
                similarities.append(scale * (2 * key @ query - key @ key))
                values.append(s["reference_probs"][b, :, i, j])
        share = torch.stack(similarities).softmax(0)
        out[b, :, y, x] += (share.unsqueeze(1) * torch.stack(values)).sum(0)
    return out


@pytest.mark.parametrize("reference", ["foreground", "all"])
@pytest.mark.parametrize("scale", [None, 1.0, 0.1])
def test_correction_equals_a_loop_over_cells(reference: Reference, scale: float | None) -> None:
    s = scene()
    out, selected = correct(**s, reference=reference, scale=scale)
    assert torch.equal(selected, s["large"])
    assert torch.allclose(out, slow(s, reference, 16**-0.5 if scale is None else scale), atol=1e-5)


def test_scenes_tell_the_positions_and_the_scales_apart() -> None:
    s = scene()
    found = [slow(s, reference, scale) for reference in ("foreground", "all") for scale in (16**-0.5, 1.0, 0.1)]
    for one, other in itertools.combinations(found, 2):
        assert (one - other).abs().max() > 1e-2


def test_all_positions_reject_what_looks_like_the_background() -> None:
    s = scene(batch=1, objects=1)
    s["reference_probs"][:] = 0
    s["reference_probs"][..., :3] = 1
    s["reference_features"] = 3 * torch.eye(16)[:, :2].T.repeat_interleave(torch.tensor([3, 4]), 0).T.view(1, 16, 1, 7)
    s["reference_features"] = s["reference_features"].expand(1, 16, 5, 7)
    s["features"] = s["reference_features"].flip(-1)
    s["large"][:] = True
    foreground, _ = correct(**s, scale=1.0)
    everywhere, _ = correct(**s, reference="all", scale=1.0)
    background = s["features"][:, 1:2] > 0
    assert torch.allclose((foreground - s["probs"])[background], torch.ones(background.sum().item()), atol=1e-5)
    assert ((everywhere - s["probs"])[background] < 1e-3).all()
    assert ((everywhere - s["probs"])[~background] > 1 - 1e-3).all()


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
