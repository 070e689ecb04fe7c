"""Key adaptation (section 3.3): an object and its surroundings learn to match themselves, by the keys alone.

Shapes: B clips, O objects, G = O memories or 1 that they share, N positions, C channels. Every clip has projections of
its own, so the gradient of the sum over clips is each one's own gradient.
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
"""By so much the rate falls when a step is taken back."""
NOTHING = 1e-6
"""An object loss below this share of all positions is none, and cannot be balanced."""


class Point(NamedTuple):
    """The losses at some keys: L_obj and L_bg B O, and mean lengths of query and memory keys, B 2."""

    objects: Tensor
    backgrounds: Tensor
    norms: Tensor


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything that stays the same while keys are tuned.

    Attributes:
        query: B C h w, float32.
        memory: B G C h w.
        masks: B O N, on the grid of the features.
        slot_mask: B O, 1 where the slot is in use.
        layers: the network's projections, of which the shapes are used.
        comparison: of keys.
        tuning: choices.
    """

    query: Tensor
    memory: Tensor
    masks: Tensor
    slot_mask: Tensor
    layers: tuple[nn.Conv2d, ...]
    comparison: Comparison
    tuning: Tuning

    def keys(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """Keys of all positions: query B N C, memory B G N C."""
        asked = flatten_hw(project(self.layers[0], self.query, keys.query))
        stored = flatten_hw(project(self.layers[-1], self.memory.flatten(0, 1), keys.stored))
        return asked, stored.view(*self.memory.shape[:2], *stored.shape[1:])

    def at(self, keys: Keys) -> Point:
        """Eq. 3: affinity where there should be none."""
        asked, stored = self.keys(keys)
        found = heat(asked, stored, self.masks, self.comparison, self.tuning.scale, self.tuning.exclude_self)
        # The rows of the affinity sum to 1: what is not on the object is on the background.
        objects = ((1 - self.masks) * found).sum(2) * self.slot_mask
        backgrounds = (self.masks * (1 - found)).sum(2) * self.slot_mask
        if self.tuning.reduction == "mean":
            objects, backgrounds = objects / found.shape[2], backgrounds / found.shape[2]
        return Point(objects, backgrounds, lengths(asked, stored))

    def weights(self, first: Point) -> tuple[Tensor, float]:
        """Of L_obj, α B O, and of L_bg."""
        alpha = torch.ones_like(first.objects)
        if self.tuning.alpha is not None:
            alpha = alpha * self.tuning.alpha
        elif self.tuning.losses == "both":
            count = 1 if self.tuning.reduction == "mean" else self.masks.shape[2]
            some = first.objects > NOTHING * count
            alpha = torch.where(some, first.backgrounds / first.objects.clamp(min=NOTHING * count), alpha)
        return alpha * (self.tuning.losses != "background"), float(self.tuning.losses != "object")


def tune(
    compared: KeyInputs,
    layers: tuple[nn.Conv2d, ...],
    comparison: Comparison,
    tuning: Tuning,
    frame: int = 0,
    started: float | None = None,
) -> tuple[Keys, Adaptation]:
    """Minimise Eq. 3 over each clip's own key projections; nothing else changes, the network's own least of all.

    Gradients and full precision are switched on whatever the caller has switched off, inference mode included.

    Args:
        compared: the frame. Its keys, where it has some, are where the steps begin.
        layers: the network's projections.
        comparison: of keys.
        tuning: choices.
        frame: its index, for the record.
        started: when the work on the frame began, by `clock`; None: now.

    Returns:
        keys without gradient, and what happened.
    """
    device = compared.query.device
    started = clock(device) if started is None else started
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        size = (compared.query.shape[-2], compared.query.shape[-1])
        problem = Problem(
            _plain(compared.query),
            _plain(compared.memory),
            on_grid(compared.masks, size, tuning.masks),
            compared.masks.slot_mask.float(),
            layers,
            comparison,
            tuning,
        )
        keys = _start(compared.keys or copy_keys(layers, len(compared.query)), tuning)
        parameters = [
            tensor.requires_grad_()
            for side, own in (("query", keys.query), ("memory", keys.memory))
            if own is not None and tuning.projections in ("both", side)
            for tensor in (own.weight, own.bias)
        ]
        made = _descend(problem, keys, parameters, frame)
        made.seconds = clock(device) - started
    return keys.detach(), made


def on_grid(masks: Masks, size: tuple[int, int], how: Grid) -> Tensor:
    """Planes B O H W as shares of cells, B O N; unused slots are empty."""
    probs = masks.probs.float() * masks.slot_mask[:, :, None, None]
    cells = F.adaptive_avg_pool2d(probs, size).flatten(2)
    return cells if how == "area" else (cells >= 0.5).float()


def lengths(asked: Tensor, stored: Tensor) -> Tensor:
    """Mean lengths of keys B N C and B G N C: B 2."""
    return torch.stack([asked.detach().norm(dim=-1).mean(1), stored.detach().norm(dim=-1).mean((1, 2))], 1)


def clock(device: torch.device) -> float:
    """Seconds, once everything queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _descend(problem: Problem, keys: Keys, parameters: list[Tensor], frame: int) -> Adaptation:
    """Change `parameters`, which `keys` are made of, in place."""
    tuning = problem.tuning
    losses: list[Tensor] = []
    points: list[Point] = []
    kept = base = slopes = parameters
    for step in range(tuning.steps + 1):
        point = problem.at(keys)
        detached = Point(*(part.detach() for part in point))
        if not points:
            alpha, background = problem.weights(detached)
            running = torch.ones(len(alpha), dtype=torch.bool, device=alpha.device)
            best, chosen, stale = torch.full_like(alpha[:, 0], torch.inf), running * 0, running * 0
            rates = torch.full_like(best, tuning.lr)
        loss = (alpha * point.objects + background * point.backgrounds).sum(1)
        value = loss.detach()
        taken = torch.ones_like(running)
        if points:
            taken = (value <= losses[-1]) | (not tuning.backtrack)
            value = torch.where(taken, value, losses[-1])
            detached = Point(
                *(torch.where(_wide(taken, new), new, old) for new, old in zip(detached, points[-1], strict=True))
            )
        rates = torch.where(taken, rates, rates / BACKTRACK)
        losses.append(value)
        points.append(detached)
        better, finite = value < best, value.isfinite()
        best, stale = torch.where(better, value, best), torch.where(better, 0, stale + 1)
        wanted = running & taken & (better if tuning.keep == "best" else finite)
        chosen = torch.where(wanted, step, chosen)
        kept = [torch.where(_wide(wanted, p), p, old).detach() for p, old in zip(parameters, kept, strict=True)]
        running = running & finite & (value > tuning.stop * losses[0]) & (stale < (tuning.patience or tuning.steps + 1))
        if step == tuning.steps or ((tuning.stop or tuning.patience) and not running.any()):
            break
        grads = torch.autograd.grad(loss.sum(), parameters)
        with torch.no_grad():
            base = [torch.where(_wide(taken, p), p, old) for p, old in zip(parameters, base, strict=True)]
            slopes = [torch.where(_wide(taken, g), g, old) for g, old in zip(grads, slopes, strict=True)]
            for parameter, begun, slope in zip(parameters, base, slopes, strict=True):
                parameter.copy_(torch.where(_wide(running, slope), begun - _wide(rates, slope) * slope, begun))
            if tuning.keep_norm:
                _rescale(problem, keys, points[0].norms)
    with torch.no_grad():
        for parameter, final in zip(parameters, kept, strict=True):
            parameter.copy_(final)
    objects, backgrounds, norms = (torch.stack(parts, 1) for parts in zip(*points, strict=True))
    return Adaptation(frame, torch.stack(losses, 1), objects, backgrounds, alpha, norms, chosen, 0.0)


def _rescale(problem: Problem, keys: Keys, norms: Tensor) -> None:
    """Make keys as long on the average as they were: a way to a smaller loss that leads nowhere is closed."""
    factors = norms / lengths(*problem.keys(keys)).clamp(min=1e-12)
    for own, factor in zip((keys.query, keys.memory), factors.unbind(1), strict=True):
        if own is not None:
            own.weight.mul_(_wide(factor, own.weight))
            own.bias.mul_(_wide(factor, own.bias))


def _start(keys: Keys, tuning: Tuning) -> Keys:
    """Copies in full precision to begin from; those of query and memory part where one alone is to be tuned."""
    memory = keys.memory if tuning.projections == "both" else keys.stored
    return Keys(_copy(keys.query), None if memory is None else _copy(memory))


def _copy(own: Projection) -> Projection:
    return Projection(_plain(own.weight).clone(), _plain(own.bias).clone())


def _plain(tensor: Tensor) -> Tensor:
    """Float32, and a tensor that gradients may pass even where it was made in inference mode."""
    tensor = tensor.detach()
    return (tensor.clone() if tensor.is_inference() else tensor).float()


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """B -> B 1 1 …, beside `like`."""
    return values.view(-1, *[1] * (like.dim() - 1))
