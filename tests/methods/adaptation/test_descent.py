from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import KeyInputs, Masks
from voslab.methods.adaptation.affinity import heat
from voslab.methods.adaptation.descent import tune
from voslab.methods.adaptation.objective import Losses, Objective, View, mean_norms, on_grid, split_cells
from voslab.methods.adaptation.tuning import Adaptation, Tuning
from voslab.nn.affinity import attend
from voslab.nn.blocks import flatten_hw
from voslab.nn.key_projections import copy_keys, project

H, W = 5, 6


def scene(batch: int = 1, objects: int = 1, groups: int = 1) -> KeyInputs:
    """Features of two kinds of thing, of which one is the object and shows once more outside of its mask."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 6, H, W, generator=rng)
    x[..., 1:4, 1:3] += 1
    x[..., 1:4, 4:6] += 0.8
    probs = torch.zeros(batch, objects, 16 * H, 16 * W)
    for i in range(objects):
        probs[:, i, 16 : 60 - 4 * i, 16 + 32 * i : 44 + 32 * i] = 1
    memory = torch.stack([x + 0.1 * i for i in range(groups)], 1)
    return KeyInputs(x, memory, Masks(probs, torch.ones(batch, objects, dtype=torch.bool)), None)


def layers(count: int) -> tuple[nn.Conv2d, ...]:
    torch.manual_seed(1)
    return tuple(nn.Conv2d(6, 4, 3, padding=1) for _ in range(count))


def _tuned(inputs: KeyInputs, **choices: Any) -> Adaptation:
    return tune(inputs, layers(2), "dot", Tuning(**{"steps": 5, "lr": 0.1, **choices}))[1]


def _double(layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
    assert layer.bias is not None
    return layer.weight.double(), layer.bias.double()


def slow_losses(inputs: KeyInputs, convolutions: tuple[nn.Conv2d, ...]) -> Tensor:
    """Eq. 1 and 3 by loops in double precision: L_obj and L_bg by object, 2 O."""
    [x], memory = inputs.query.double(), inputs.memory[0].double()
    query_keys = F.conv2d(x[None], *_double(convolutions[0]), padding=1)[0].flatten(1).t()
    memory_keys = [F.conv2d(each[None], *_double(convolutions[-1]), padding=1)[0].flatten(1).t() for each in memory]
    losses = torch.zeros(2, inputs.masks.slot_mask.shape[1], dtype=torch.float64)
    for o, plane in enumerate(inputs.masks.probs[0].double()):
        m = plane.unflatten(0, (H, 16)).unflatten(2, (W, 16)).mean((1, 3)).flatten()
        keys = memory_keys[o % len(memory_keys)]
        for i in range(H * W):
            weights = torch.stack([(query_keys[i] @ keys[j] * 0.5).exp() for j in range(H * W)])
            row = weights / weights.sum()
            for j in range(H * W):
                losses[0, o] += (1 - m[i]) * m[j] * row[j]
                losses[1, o] += m[i] * (1 - m[j]) * row[j]
    return losses


@pytest.mark.parametrize(("objects", "groups", "count"), [(1, 1, 2), (2, 2, 2), (2, 1, 1)])
def test_losses_equal_the_equations_of_the_paper(objects: int, groups: int, count: int) -> None:
    inputs, convolutions = scene(1, objects, groups), layers(count)
    _, record = tune(inputs, convolutions, "dot", Tuning(steps=1))
    expected = slow_losses(inputs, convolutions)
    assert torch.allclose(record.objects[0, 0].double(), expected[0], atol=1e-5)
    assert torch.allclose(record.backgrounds[0, 0].double(), expected[1], atol=1e-5)
    assert torch.allclose(record.alpha[0].double(), expected[1] / expected[0], atol=1e-4)
    assert torch.allclose(record.loss[0, 0].double(), 2 * expected[1].sum(), atol=1e-4), "both begin equal"


def test_a_step_is_plain_gradient_descent() -> None:
    inputs, convolutions = scene(), layers(2)
    keys, record = tune(inputs, convolutions, "dot", Tuning(steps=1, lr=0.3, backtrack=False))
    x = inputs.query
    parameters = [p for layer in convolutions for p in layer.parameters()]
    query_keys, memory_keys = (layer(x)[0].flatten(1).t() for layer in convolutions)
    m = on_grid(inputs.masks, (H, W), "area")[0, 0]
    a = (query_keys @ memory_keys.t() * 0.5).softmax(1)
    loss = record.alpha[0, 0] * (1 - m) @ a @ m + m @ a @ (1 - m)
    found = [keys.query.weight, keys.query.bias, keys.stored.weight, keys.stored.bias]
    for parameter, grad, own in zip(parameters, torch.autograd.grad(loss, parameters), found, strict=True):
        assert torch.allclose(own[0], parameter - 0.3 * grad, atol=1e-5)


@pytest.mark.parametrize("comparison", ["dot", "l2", "linear"])
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"losses": "object"},
        {"losses": "background"},
        {"alpha": 3.0},
        {"masks": "binary"},
        {"exclude_self": True},
        {"keep_norm": True},
        {"projections": "query"},
        {"projections": "memory"},
        {"reduction": "mean", "lr": 0.3},
        {"loss": "cross_entropy"},
        {"border": 0.1},
        {"normalize": True},
        {"hold_out": 0.3},
    ],
    ids=str,
)
def test_loss_decreases(comparison: Any, choices: dict[str, Any]) -> None:
    _, record = tune(scene(2, 2), layers(1), comparison, Tuning(**{"steps": 20, "lr": 0.01, **choices}))
    assert record.loss.shape == (2, 21)
    assert (record.loss[:, -1] < record.loss[:, 0] - 1e-4).all()
    assert (record.loss.diff(dim=1) < 0.01).all(), "at a rate this small"


def test_single_losses_are_minimised() -> None:
    both, first, second = (_tuned(scene(), losses=losses) for losses in ("both", "object", "background"))
    assert torch.equal(first.loss, first.objects.sum(2))
    assert torch.equal(second.loss, second.backgrounds.sum(2))
    assert torch.allclose(both.loss, both.alpha * both.objects[..., 0] + both.backgrounds[..., 0])


def test_a_mean_does_not_depend_on_the_resolution() -> None:
    small = scene()
    large = replace(small, query=small.query.repeat_interleave(2, 2), memory=small.memory.repeat_interleave(2, 3))
    convolutions = tuple(nn.Conv2d(6, 4, 1) for _ in range(2))
    sums, means = [
        [tune(x, convolutions, "dot", Tuning(1, reduction=how))[1].loss[0, 0] for x in (small, large)]
        for how in ("sum", "mean")
    ]
    assert torch.allclose(2 * sums[0], sums[1], rtol=1e-3)
    assert torch.allclose(means[0], means[1], rtol=1e-3)


@pytest.mark.parametrize("projections", ["query", "memory"])
@pytest.mark.parametrize("count", [1, 2])
def test_only_the_requested_projection_changes(projections: str, count: int) -> None:
    convolutions = layers(count)
    keys, _ = tune(scene(), convolutions, "dot", Tuning(3, 0.1, projections=projections))  # type: ignore[arg-type]
    assert torch.equal(keys.query.weight[0], convolutions[0].weight) == (projections != "query")
    assert torch.equal(keys.stored.weight[0], convolutions[-1].weight) == (projections != "memory")


def test_keep_norm_keeps_the_mean_length_of_keys() -> None:
    _, free = tune(scene(), layers(2), "dot", Tuning(20))
    _, fixed = tune(scene(), layers(2), "dot", Tuning(20, keep_norm=True))
    assert free.norms[0, -1].min() > 1.2 * free.norms[0, 0].max()
    assert torch.allclose(fixed.norms, fixed.norms[:, :1].expand_as(fixed.norms), rtol=1e-4)


def test_clips_are_adapted_independently() -> None:
    both = scene(2)
    both.query[1] *= 2
    one = KeyInputs(both.query[1:], both.memory[1:], Masks(both.masks.probs[1:], both.masks.slot_mask[1:]), None)
    together, _ = tune(both, layers(2), "dot", Tuning(5, 0.1))
    alone, _ = tune(one, layers(2), "dot", Tuning(5, 0.1))
    assert torch.allclose(together.query.weight[1], alone.query.weight[0], atol=1e-5)
    assert not torch.allclose(together.query.weight[0], alone.query.weight[0], atol=1e-3)


def test_unused_slots_and_empty_masks_change_nothing() -> None:
    convolutions, one, two = layers(2), scene(), scene(objects=2)
    expected, _ = tune(one, convolutions, "dot", Tuning(3, 0.1))
    unused = replace(two, masks=Masks(two.masks.probs, torch.tensor([[True, False]])))
    empty = replace(two, masks=Masks(two.masks.probs * torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), two.masks.slot_mask))
    for inputs in (unused, empty):
        keys, _ = tune(inputs, convolutions, "dot", Tuning(3, 0.1))
        # Not bit for bit on every processor: products of one object and of two are added up in different orders.
        torch.testing.assert_close(keys.query.weight, expected.query.weight, rtol=1e-5, atol=1e-7)
    no_objects = replace(one, masks=Masks(one.masks.probs, torch.tensor([[False]])))
    keys, record = tune(no_objects, convolutions, "dot", Tuning(3, 0.1))
    assert torch.equal(keys.query.weight[0], convolutions[0].weight)
    assert not record.loss.any()


def test_object_that_fills_the_frame_is_not_balanced() -> None:
    inputs = scene()
    full = replace(inputs, masks=Masks(torch.ones_like(inputs.masks.probs), inputs.masks.slot_mask))
    keys, record = tune(full, layers(2), "dot", Tuning(3))
    assert record.alpha.tolist() == [[1.0]]
    assert keys.query.weight.isfinite().all()


def test_stop_criteria() -> None:
    _, record = tune(scene(), layers(2), "dot", Tuning(200, 0.3, stop=0.9))
    assert record.loss.shape[1] < 200
    assert record.loss[0, -1] <= 0.9 * record.loss[0, 0] < record.loss[0, -2]
    _, record = tune(scene(), layers(2), "dot", Tuning(200, 30.0, patience=4))
    assert record.loss[0, -5:].min() == record.loss[0, -5]
    assert record.loss.shape[1] < 200


def test_best_keys_are_selected() -> None:
    convolutions, tuning = layers(2), Tuning(30, 30.0, False, keep="best")
    keys, record = tune(scene(), convolutions, "dot", tuning)
    assert record.selected[0] == record.loss[0].argmin()
    assert record.selected[0] < 30
    _, again = tune(replace(scene(), keys=keys), convolutions, "dot", replace(tuning, steps=1))
    assert torch.allclose(again.objects[0, 0], record.objects[0, record.selected[0]], atol=1e-5)


def test_increasing_step_is_reverted() -> None:
    keys, record = tune(scene(), layers(2), "dot", Tuning(6, 1e25, False))
    assert not record.loss.isfinite().all()
    assert record.loss[0, record.selected[0]].isfinite()
    assert keys.query.weight.isfinite().all()


def test_half_precision_and_inference_mode_change_neither_numbers_nor_modes() -> None:
    expected, _ = tune(scene(), layers(2), "dot", Tuning(3, 0.1))
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        keys, _ = tune(scene(), layers(2), "dot", Tuning(3, 0.1))
        assert torch.is_inference_mode_enabled()
    assert torch.equal(keys.query.weight, expected.query.weight)
    half = scene()
    half = replace(half, query=half.query.bfloat16(), memory=half.memory.bfloat16())
    keys, record = tune(half, layers(2), "dot", Tuning(3, 0.1))
    assert keys.query.weight.dtype == torch.float32
    assert record.loss[0, -1] < record.loss[0, 0]


def objective(inputs: KeyInputs, **choices: Any) -> Objective:
    tuning = Tuning(**choices)
    view = View(inputs.query, on_grid(inputs.masks, (H, W), tuning.masks))
    cells = split_cells((H, W), tuning.hold_out, inputs.query.device)
    slots = inputs.masks.slot_mask.float()
    return Objective((view,), inputs.memory, view.masks, slots, layers(2), "dot", tuning, *cells)


def first_losses(problem: Objective) -> Losses:
    queries, memory = problem.keys(copy_keys(problem.layers, 1))
    return problem.losses(queries, memory, mean_norms(queries, memory))


def separated(contrast: float) -> KeyInputs:
    """An object of whole cells whose features have another sign than the background's."""
    x = torch.full((1, 6, H, W), -contrast)
    x[..., 1:4, 1:3] = contrast
    probs = torch.zeros(1, 1, 16 * H, 16 * W)
    probs[..., 16:64, 16:48] = 1
    return KeyInputs(x, x.unsqueeze(1), Masks(probs, torch.ones(1, 1, dtype=torch.bool)), None)


@pytest.mark.parametrize("which", ["objects", "backgrounds"])
def test_no_loss_is_switched_off_when_the_other_begins_at_zero(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = objective(scene())
    losses = Losses(torch.full((1, 1), 3.0), torch.full((1, 1), 3.0))._replace(**{which: torch.full((1, 1), 1e-9)})
    alpha, background = problem.weights(losses)
    assert (alpha.item(), background) == (pytest.approx(10.0 if which == "objects" else 0.1), 1.0)
    assert replace(problem, tuning=Tuning(alpha_bounds=(0.5, 2.0))).weights(losses)[0].item() in {0.5, 2.0}
    nothing = torch.zeros(1, 1)
    assert problem.weights(Losses(nothing, nothing))[0].item() == 1.0


def test_keys_move_although_the_background_loss_begins_at_zero() -> None:
    inputs = scene()
    point = nn.Conv2d(6, 4, 1)
    torch.nn.init.orthogonal_(point.weight)
    inputs.query[..., 1:4, 1:3] *= 40
    inputs.memory[:, 0] = inputs.query
    whole = inputs.masks.probs.clone()
    whole[...] = 0
    whole[..., 16:64, 16:48] = 1
    aligned = replace(inputs, masks=Masks(whole, inputs.masks.slot_mask))
    _, record = tune(aligned, (point,), "dot", Tuning(steps=5, masks="binary"))
    assert record.backgrounds[0, 0] < 1e-3 * record.objects[0, 0]
    assert record.alpha.item() == pytest.approx(0.1)
    assert record.moved > 1e-3
    assert record.objects[0, -1] < record.objects[0, 0]


def test_keys_that_do_not_move_are_reported_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    tune(separated(100.0), layers(2), "dot", Tuning(steps=3))
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["frame 0"]
    assert "left the keys as they were" in caplog.text
    caplog.clear()
    tune(scene(), layers(2), "dot", Tuning(steps=3))
    assert not caplog.records


def test_cross_entropy_is_smallest_where_heat_and_mask_are_equal() -> None:
    inputs = scene()
    problem = objective(inputs, loss="cross_entropy")
    queries, memory = problem.keys(copy_keys(problem.layers, 1))
    m = problem.masks
    h = heat(queries[0], memory, m, "dot")
    found = first_losses(problem)
    expected = F.binary_cross_entropy(h, m, reduction="sum")
    assert (found.objects + found.backgrounds).item() == pytest.approx(expected.item(), rel=1e-4)


def test_cells_across_the_border_can_be_left_out() -> None:
    inputs = scene()
    everywhere, clear = objective(inputs), objective(inputs, border=0.1)
    m = everywhere.masks
    assert ((m > 0.1) & (m < 0.9)).any()
    queries, memory = everywhere.keys(copy_keys(everywhere.layers, 1))
    h = heat(queries[0], memory, m, "dot")
    counted = (m <= 0.1) | (m >= 0.9)
    assert torch.allclose(first_losses(clear).objects, ((1 - m) * h * counted).sum(2), rtol=1e-4)
    assert torch.allclose(first_losses(everywhere).objects, ((1 - m) * h).sum(2), rtol=1e-4)


def test_cells_that_are_held_out_do_not_change_the_loss() -> None:
    inputs, tuning = scene(), Tuning(steps=8, lr=0.3, hold_out=0.3, keep="best")
    points = tuple(nn.Conv2d(6, 4, 1) for _ in range(2))
    _, held = split_cells((H, W), 0.3, inputs.query.device)
    assert 0.1 < len(held) / (H * W) < 0.5
    other = replace(inputs, query=inputs.query.clone(), memory=inputs.memory.clone())
    for x in (other.query, other.memory):
        x.flatten(-2)[..., held] += 1
    (_, a), (_, b) = (tune(x, points, "dot", tuning) for x in (inputs, other))
    assert torch.equal(a.loss, b.loss)
    assert not torch.allclose(a.validation, b.validation)
    for record in (a, b):
        assert record.selected[0] == record.validation[0].argmin()


def test_the_loss_ignores_the_length_of_keys_if_asked() -> None:
    inputs = scene()
    for normalize in (True, False):
        problem = objective(inputs, normalize=normalize)
        queries, memory = problem.keys(copy_keys(problem.layers, 1))
        lengths = mean_norms(queries, memory)
        once, twice = (problem.losses([factor * queries[0]], factor * memory, lengths) for factor in (1, 2))
        assert torch.allclose(once.objects, twice.objects, rtol=1e-4) == normalize


@pytest.mark.parametrize("comparison", ["dot", "l2"])
def test_the_memory_is_read_with_the_scale_of_the_loss_if_asked(comparison: Any) -> None:
    inputs, convolutions = scene(), layers(2 if comparison == "dot" else 1)
    keys, _ = tune(inputs, convolutions, comparison, Tuning(steps=0, scale=1.0, scale_read=True))
    m = on_grid(inputs.masks, (H, W), "area")
    query = flatten_hw(project(convolutions[0], inputs.query, keys.query))
    memory = flatten_hw(project(convolutions[-1], inputs.memory.flatten(0, 1), keys.stored)).unsqueeze(1)
    read = attend(query, memory, m.unsqueeze(3), similarity=comparison)[..., 0]
    plain = flatten_hw(convolutions[0](inputs.query)), flatten_hw(convolutions[-1](inputs.memory[0])).unsqueeze(1)
    assert torch.allclose(read, heat(*plain, m, comparison, scale=1.0), atol=1e-4)
    assert not torch.allclose(read, heat(*plain, m, comparison), atol=1e-2)
    again, _ = tune(replace(inputs, keys=keys), convolutions, comparison, Tuning(steps=0, scale=1.0, scale_read=True))
    assert torch.allclose(again.query.weight, keys.query.weight, rtol=1e-5)


def test_copies_are_queries_of_the_same_memory() -> None:
    inputs, shifted = scene(), scene()
    shifted = replace(
        shifted, query=shifted.query.roll(2, 3), masks=Masks(shifted.masks.probs.roll(32, 3), inputs.masks.slot_mask)
    )
    own, both = (
        tune(inputs, layers(2), "dot", Tuning(steps=0, alpha=1.0), copies=copies)[1].loss.item()
        for copies in ([], [shifted])
    )
    view = View(shifted.query, on_grid(shifted.masks, (H, W), "area"))
    other = sum(part.item() for part in first_losses(replace(objective(inputs), views=(view,))))
    assert abs(other - own) > 0.05
    assert both == pytest.approx((own + other) / 2, rel=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": -1},
        {"lr": 0.0},
        {"stop": 1.0},
        {"alpha": -1.0},
        {"patience": 0},
        {"losses": "none"},
        {"alpha_bounds": (2.0, 1.0)},
        {"loss": "hinge"},
        {"border": 0.6},
        {"hold_out": 1.0},
        {"copies": -1},
        {"scale_read": True},
    ],
    ids=str,
)
def test_choices_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Tuning(**wrong)


def test_backtracking_is_independent_per_clip() -> None:
    one = scene(2, 1)
    two = replace(one, query=one.query * torch.tensor([1.0, 20.0]).view(2, 1, 1, 1))
    _, calm = tune(two, layers(2), "dot", Tuning(steps=40, lr=1.0))
    _, wild = tune(two, layers(2), "dot", Tuning(steps=40, lr=1.0, backtrack=False))
    assert (calm.loss.diff(dim=1) <= 0).all()
    assert (calm.loss[:, -1] < calm.loss[:, 0] - 1e-3).all()
    assert (wild.loss[1].diff() > 0).any()
    _, alone = tune(one, layers(2), "dot", Tuning(steps=40, lr=1.0))
    assert torch.allclose(calm.loss[0], alone.loss[0], atol=1e-4), "the other video's rate is not this one's"
