"""Tunes key projections on the first frame by gradient descent (section 3.3), so that objects match themselves.

Shapes: B clips, O objects, G memories (O, or 1 if objects share their keys), N positions, C channels. Every clip has
its own projections, so the gradient of the sum over clips equals the gradient of each clip.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import KeyInputs, Keys, Masks, Projection
from voslab.core.segmenter import Comparison
from voslab.methods.adaptation.affinity import heat
from voslab.methods.adaptation.tuning import Adaptation, Grid, Tuning
from voslab.nn.blocks import flatten_hw
from voslab.nn.key_projections import copy_keys, project

BACKTRACK = 4.0
"""Divisor of the learning rate when a step is reverted."""
MIN_LOSS = 1e-6
"""Object losses per position below this value count as zero and are not balanced."""


class Point(NamedTuple):
    """Losses of the current keys.

    Attributes:
        objects: L_obj, B O.
        backgrounds: L_bg, B O.
        norms: mean lengths of query and memory keys, B 2.
    """

    objects: Tensor
    backgrounds: Tensor
    norms: Tensor


@dataclass(frozen=True, slots=True)
class Problem:
    """The constants of an adaptation.

    Attributes:
        query: B C h w, float32, inputs of the query projection.
        memory: B G C h w, float32, inputs of the memory projection.
        masks: B O N, on the grid of the features.
        slot_mask: B O, 1 for slots in use.
        layers: projections of the network, which define kernel size, stride and padding.
        comparison: how keys are inputs.
        tuning: settings of the adaptation.
    """

    query: Tensor
    memory: Tensor
    masks: Tensor
    slot_mask: Tensor
    layers: tuple[nn.Conv2d, ...]
    comparison: Comparison
    tuning: Tuning

    def keys(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """Compute the keys of all positions: query B N C, memory B G N C."""
        query = flatten_hw(project(self.layers[0], self.query, keys.query))
        memory = flatten_hw(project(self.layers[-1], self.memory.flatten(0, 1), keys.stored))
        return query, memory.view(*self.memory.shape[:2], *memory.shape[1:])

    def losses(self, keys: Keys) -> Point:
        """Compute both losses of Eq. 3 without their weights."""
        query, memory = self.keys(keys)
        heat_map = heat(query, memory, self.masks, self.comparison, self.tuning.scale, self.tuning.exclude_self)
        # The rows of the affinity sum to 1, so 1 - heat is the share of the background.
        objects = ((1 - self.masks) * heat_map).sum(2) * self.slot_mask
        backgrounds = (self.masks * (1 - heat_map)).sum(2) * self.slot_mask
        if self.tuning.reduction == "mean":
            objects, backgrounds = objects / heat_map.shape[2], backgrounds / heat_map.shape[2]
        return Point(objects, backgrounds, mean_norms(query, memory))

    def weights(self, first: Point) -> tuple[Tensor, float]:
        """Return the weight α of L_obj, B O, and the weight of L_bg, given the losses before the first step."""
        alpha = torch.ones_like(first.objects)
        if self.tuning.alpha is not None:
            alpha = alpha * self.tuning.alpha
        elif self.tuning.losses == "both":
            count = 1 if self.tuning.reduction == "mean" else self.masks.shape[2]
            balanced = first.objects > MIN_LOSS * count
            alpha = torch.where(balanced, first.backgrounds / first.objects.clamp(min=MIN_LOSS * count), alpha)
        return alpha * (self.tuning.losses != "background"), float(self.tuning.losses != "object")


def tune(
    inputs: KeyInputs,
    layers: tuple[nn.Conv2d, ...],
    comparison: Comparison,
    tuning: Tuning,
    frame: int = 0,
    started: float | None = None,
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

    Returns:
        the tuned keys without gradient, and a record of the steps.
    """
    device = inputs.query.device
    started = clock(device) if started is None else started
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        size = (inputs.query.shape[-2], inputs.query.shape[-1])
        problem = Problem(
            _plain(inputs.query),
            _plain(inputs.memory),
            on_grid(inputs.masks, size, tuning.masks),
            inputs.masks.slot_mask.float(),
            layers,
            comparison,
            tuning,
        )
        keys = _start(inputs.keys or copy_keys(layers, len(inputs.query)), tuning)
        parameters = [
            tensor.requires_grad_()
            for side, own in (("query", keys.query), ("memory", keys.memory))
            if own is not None and tuning.projections in ("both", side)
            for tensor in (own.weight, own.bias)
        ]
        adaptation = _descend(problem, keys, parameters, frame)
        adaptation.seconds = clock(device) - started
    return keys.detach(), adaptation


def on_grid(masks: Masks, size: tuple[int, int], mode: Grid) -> Tensor:
    """Reduce masks to a grid of cells.

    Args:
        masks: probs B O H W.
        size: h, w of the grid.
        mode: `area` for the mean of each cell, `binary` to threshold it at 0.5.

    Returns:
        B O N; 0 for unused slots.
    """
    probs = masks.probs.float() * masks.slot_mask[:, :, None, None]
    cells = F.adaptive_avg_pool2d(probs, size).flatten(2)
    return cells if mode == "area" else (cells >= 0.5).float()


def mean_norms(query: Tensor, memory: Tensor) -> Tensor:
    """Compute the mean lengths B 2 of query keys B N C and memory keys B G N C."""
    return torch.stack([query.detach().norm(dim=-1).mean(1), memory.detach().norm(dim=-1).mean((1, 2))], 1)


def clock(device: torch.device) -> float:
    """Synchronise the device and return the time of a monotonic clock in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _descend(problem: Problem, keys: Keys, parameters: list[Tensor], frame: int) -> Adaptation:
    """Run gradient descent on `parameters`, the tensors of `keys` to tune, in place."""
    tuning = problem.tuning
    losses: list[Tensor] = []
    points: list[Point] = []
    selected = base = gradients = parameters
    for step in range(tuning.steps + 1):
        point = problem.losses(keys)
        detached = Point(*(part.detach() for part in point))
        if not points:
            alpha, background = problem.weights(detached)
            running = torch.ones(len(alpha), dtype=torch.bool, device=alpha.device)
            best, chosen, stale = torch.full_like(alpha[:, 0], torch.inf), running * 0, running * 0
            rates = torch.full_like(best, tuning.lr)
        loss = (alpha * point.objects + background * point.backgrounds).sum(1)
        value = loss.detach()
        accepted = torch.ones_like(running)
        if points:
            accepted = (value <= losses[-1]) | (not tuning.backtrack)
            value = torch.where(accepted, value, losses[-1])
            detached = Point(*(_where(accepted, new, old) for new, old in zip(detached, points[-1], strict=True)))
        rates = torch.where(accepted, rates, rates / BACKTRACK)
        losses.append(value)
        points.append(detached)
        better, finite = value < best, value.isfinite()
        best, stale = torch.where(better, value, best), torch.where(better, 0, stale + 1)
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
            for parameter, start, gradient in zip(parameters, base, gradients, strict=True):
                parameter.copy_(_where(running, start - _expand(rates, gradient) * gradient, start))
            if tuning.keep_norm:
                _rescale(problem, keys, points[0].norms)
    with torch.no_grad():
        for parameter, final in zip(parameters, selected, strict=True):
            parameter.copy_(final)
    objects, backgrounds, norms = (torch.stack(parts, 1) for parts in zip(*points, strict=True))
    return Adaptation(frame, torch.stack(losses, 1), objects, backgrounds, alpha, norms, chosen, 0.0)


def _rescale(problem: Problem, keys: Keys, norms: Tensor) -> None:
    """Scale the projections so that the mean length of the keys equals `norms`, B 2."""
    factors = norms / mean_norms(*problem.keys(keys)).clamp(min=1e-12)
    for own, factor in zip((keys.query, keys.memory), factors.unbind(1), strict=True):
        if own is not None:
            own.weight.mul_(_expand(factor, own.weight))
            own.bias.mul_(_expand(factor, own.bias))


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
