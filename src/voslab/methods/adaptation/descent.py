"""Tunes key projections on the first frame by gradient descent (section 3.3), so that objects match themselves.

Shapes: see `objective`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from voslab.core import KeyInputs, Keys, Masks, Projection
from voslab.core.segmenter import Comparison
from voslab.methods.adaptation.affinity import selection_of, shrinkage_of
from voslab.methods.adaptation.objective import Losses, Objective, View, mean_norms, on_grid, split_cells
from voslab.methods.adaptation.tuning import Adaptation, Keep, Tuning
from voslab.nn.key_projections import copy_keys

log = logging.getLogger(__name__)

BACKTRACK = 4.0
"""Divisor of the learning rate when a step is reverted."""
UNMOVED = 1e-4
"""Projections that change less, relative to their length, count as unchanged."""


def tune(
    inputs: KeyInputs,
    layers: tuple[nn.Conv2d, ...],
    comparison: Comparison,
    tuning: Tuning,
    frame: int = 0,
    started: float | None = None,
    copies: Sequence[KeyInputs] = (),
) -> tuple[Keys, Adaptation]:
    """Minimise Eq. 3 over the key projections of each clip. The network is not changed.

    Gradients are enabled and autocast is disabled inside, also in inference mode.

    Args:
        inputs: inputs of the projections. The descent starts at `inputs.keys`, or at the projections of the network.
        layers: projections of the network.
        comparison: how keys are compared.
        tuning: settings of the adaptation.
        frame: index of the frame, for the record.
        started: time at which the work on the frame started, by `clock`; None for now.
        copies: inputs of augmented copies of the frame, which are queries too.

    Returns:
        the tuned keys without gradient, and a record of the steps.
    """
    device = inputs.query.device
    started = clock(device) if started is None else started
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        size = (inputs.query.shape[-2], inputs.query.shape[-1])
        views = tuple(
            View(_plain(view.query), on_grid(view.masks, size, tuning.masks), selection_of(view))
            for view in (inputs, *copies)
        )
        objective = Objective(
            views,
            _plain(inputs.memory),
            views[0].masks,
            inputs.masks.slot_mask.float(),
            layers,
            comparison,
            tuning,
            *split_cells(size, tuning.hold_out, device),
            shrinkage_of(inputs),
        )
        keys = _start(inputs.keys or copy_keys(layers, len(inputs.query)), tuning)
        read_factor = 1.0 if tuning.scale is None else (tuning.scale * keys.query.weight.shape[1] ** 0.5) ** 0.5
        if tuning.scale_read and inputs.keys is not None:
            _multiply(keys, 1 / read_factor)
        parameters = [
            tensor.requires_grad_()
            for side, own in (("query", keys.query), ("memory", keys.memory))
            if own is not None and tuning.projections in ("both", side)
            for tensor in (own.weight, own.bias)
        ]
        adaptation = _descend(objective, keys, parameters, frame)
        if tuning.scale_read:
            _multiply(keys, read_factor)
        adaptation.seconds = clock(device) - started
    _warn_unmoved(adaptation, inputs.masks, tuning.keep)
    return keys.detach(), adaptation


def clock(device: torch.device) -> float:
    """Synchronise the device and return the time of a monotonic clock in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _descend(objective: Objective, keys: Keys, parameters: list[Tensor], frame: int) -> Adaptation:
    """Run gradient descent on `parameters`, the tensors of `keys` to tune, in place."""
    tuning = objective.tuning
    start = [parameter.detach().clone() for parameter in parameters]
    norms = [mean_norms(*objective.keys(keys))]
    losses: list[Tensor] = []
    validation: list[Tensor] = []
    points: list[Losses] = []
    selected = base = gradients = parameters
    for step in range(tuning.steps + 1):
        queries, memory = objective.keys(keys)
        point = objective.losses(queries, memory, norms[0])
        detached = Losses(*(part.detach() for part in point))
        length = mean_norms(queries, memory)
        if not points:
            weights = alpha, _ = objective.weights(detached)
            running = torch.ones(len(alpha), dtype=torch.bool, device=alpha.device)
            best, chosen, stale = torch.full_like(alpha[:, 0], torch.inf), running * 0, running * 0
            rates = torch.full_like(best, tuning.lr)
        loss = point.weighted(*weights)
        value = checked = loss.detach()
        if len(objective.held_out):
            checked = objective.validate(queries, memory, norms[0]).weighted(*weights)
        accepted = torch.ones_like(running)
        if points:
            accepted = (value <= losses[-1]) | (not tuning.backtrack)
            value, checked, length = (
                _where(accepted, new, old)
                for new, old in ((value, losses[-1]), (checked, validation[-1]), (length, norms[-1]))
            )
            detached = Losses(*(_where(accepted, new, old) for new, old in zip(detached, points[-1], strict=True)))
            norms.append(length)
        rates = torch.where(accepted, rates, rates / BACKTRACK)
        losses.append(value)
        validation.append(checked)
        points.append(detached)
        better, finite = checked < best, value.isfinite()
        best, stale = torch.where(better, checked, best), torch.where(better, 0, stale + 1)
        keep = running & accepted & (better if tuning.keep == "best" else finite)
        chosen = torch.where(keep, step, chosen)
        selected = [_where(keep, new, old).detach() for new, old in zip(parameters, selected, strict=True)]
        running = running & finite & (value > tuning.stop * losses[0]) & (stale < (tuning.patience or tuning.steps + 1))
        if step == tuning.steps or ((tuning.stop or tuning.patience) and not running.any()):
            break
        grads = torch.autograd.grad(loss.sum(), parameters)
        with torch.no_grad():
            base = [_where(accepted, new, old) for new, old in zip(parameters, base, strict=True)]
            gradients = [_where(accepted, new, old) for new, old in zip(grads, gradients, strict=True)]
            for parameter, before, gradient in zip(parameters, base, gradients, strict=True):
                parameter.copy_(_where(running, before - _expand(rates, gradient) * gradient, before))
            if tuning.keep_norm:
                _rescale(objective, keys, norms[0])
    with torch.no_grad():
        for parameter, final in zip(parameters, selected, strict=True):
            parameter.copy_(final)
    parts = zip(*points, strict=True)
    objects, backgrounds = (torch.stack(part, 1) for part in parts)
    curves = torch.stack(norms, 1), torch.stack(validation, 1)
    moved = _relative_change(start, selected)
    return Adaptation(frame, torch.stack(losses, 1), objects, backgrounds, alpha, *curves, chosen, moved, 0.0)


def _relative_change(start: list[Tensor], final: list[Tensor]) -> Tensor:
    """Compute |final - start| / |start| over all tensors, B."""
    change = sum((new - old).square().flatten(1).sum(1) for new, old in zip(final, start, strict=True))
    length = sum(old.square().flatten(1).sum(1) for old in start)
    return (torch.as_tensor(change) / torch.as_tensor(length).clamp(min=1e-12)).sqrt()


def _warn_unmoved(adaptation: Adaptation, masks: Masks, keep: Keep) -> None:
    """Log one line if the keys of a clip with objects are practically those of the base."""
    idle = (adaptation.moved < UNMOVED) & masks.slot_mask.any(1).to(adaptation.moved.device)
    if keep == "last" and adaptation.loss.shape[1] > 1 and idle.any():
        clip = int(idle.nonzero()[0])
        objects, backgrounds = (part[clip, 0].sum().item() for part in (adaptation.objects, adaptation.backgrounds))
        log.warning(
            f"frame {adaptation.frame}: adaptation left the keys as they were (losses before the first step: object"
            f" {objects:.3g}, background {backgrounds:.3g}; alpha {adaptation.alpha[clip].mean().item():.3g})"
        )


def _rescale(objective: Objective, keys: Keys, norms: Tensor) -> None:
    """Scale the projections so that the mean length of the keys equals `norms`, B 2."""
    factors = norms / mean_norms(*objective.keys(keys)).clamp(min=1e-12)
    for own, factor in zip((keys.query, keys.memory), factors.unbind(1), strict=True):
        if own is not None:
            own.weight.mul_(_expand(factor, own.weight))
            own.bias.mul_(_expand(factor, own.bias))


def _multiply(keys: Keys, factor: float) -> None:
    """Multiply all keys by a factor."""
    with torch.no_grad():
        for own in (keys.query, keys.memory):
            if own is not None:
                own.weight.mul_(factor)
                own.bias.mul_(factor)


def _start(keys: Keys, tuning: Tuning) -> Keys:
    """Copy keys in full precision; a shared projection becomes two if only one of them is tuned."""
    memory = keys.memory if tuning.projections == "both" else keys.stored
    return Keys(_copy(keys.query), None if memory is None else _copy(memory))


def _copy(own: Projection) -> Projection:
    return Projection(_plain(own.weight).clone(), _plain(own.bias).clone())


def _plain(tensor: Tensor) -> Tensor:
    """Convert to float32; inference tensors are cloned, because autograd cannot use them."""
    tensor = tensor.detach()
    return (tensor.clone() if tensor.is_inference() else tensor).float()


def _expand(values: Tensor, like: Tensor) -> Tensor:
    """View B as B 1 1 …, with the dimensions of `like`."""
    return values.view(-1, *[1] * (like.dim() - 1))


def _where(condition: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Select `new` for the clips of `condition`, B, and `old` for the others."""
    return torch.where(_expand(condition, new), new, old)
