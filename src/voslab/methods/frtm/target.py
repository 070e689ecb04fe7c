"""The target model of one object (section 3.2): fitted to its first frame, and updated from a memory of samples.

Shapes: K samples, C channels of the features, c of the projected ones, h w cells, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from voslab.core import State, state_dataclass
from voslab.methods.frtm.least_squares import MIN_PIXELS, Error, error_of, pixel_weights
from voslab.methods.frtm.optimiser import Direction, minimise


@dataclass(frozen=True, slots=True)
class Fit:
    """How target models are fitted.

    Attributes:
        steps: number of steps of conjugate gradients in each step of Gauss-Newton on the first frame.
        update_steps: the same in an update.
        memory_size: number of samples in the memory.
        update_every: number of frames between two updates.
        rate: weight of the newest frame in the memory.
        share: see `pixel_weights`; None for equal weights.
        regularisation: λ of the projection and of the filter, and their preconditioner.
        forgetting: see `voslab.methods.frtm.optimiser.DECAY`.
    """

    steps: Sequence[int]
    update_steps: Sequence[int]
    memory_size: int
    update_every: int
    rate: float
    share: float | None
    regularisation: tuple[float, float] = (1e-4, 1e-2)
    forgetting: float = 750.0


@state_dataclass
class Samples(State):
    """Memory of an object, of constant size.

    Attributes:
        features: projected features, M c h w.
        error: error of the scores on the M samples.
        weights: weights of the samples, M, whose sum is 1; 0 where there is none.
        newest: position of the newest frame; None: there are those of the first frame only.
    """

    features: Tensor
    error: Error
    weights: Tensor
    newest: int | None = None


@state_dataclass
class Target(State):
    """Target model of an object.

    Attributes:
        project: 1x1 convolution, c C 1 1, which does not change after the first fit.
        filter: 3x3 convolution, 1 c 3 3.
        samples: memory; None in training, where target models are not updated.
        direction: of the optimiser of the filter.
        frames: number of frames that were classified.
    """

    project: Tensor
    filter: Tensor
    samples: Samples | None = None
    direction: Direction | None = None
    frames: int = 0

    def scores(self, features: Tensor) -> Tensor:
        """Compute the scores K 1 h w of features K C h w."""
        return F.conv2d(F.conv2d(features, self.project), self.filter, padding=1)


def fit_target(features: Tensor, labels: Tensor, project: Tensor, kernel: Tensor, fit: Fit, update: bool) -> Target:
    """Fit a target model to the augmented first frame of an object.

    Args:
        features: K C h w, the original frame first.
        labels: K H W, in [0, 1].
        project: initial projection, c C 1 1.
        kernel: initial filter, 1 c 3 3.
        fit: settings.
        update: whether to make the memory for updates, and to fit the filter to it once.

    Returns:
        the target model.
    """
    size = (features.shape[-2], features.shape[-1])
    error = error_of(labels, size, None if fit.share is None else pixel_weights(labels, fit.share))
    count = len(features)
    weights = torch.ones(count, dtype=labels.dtype, device=labels.device)
    weights[0] = 2
    weights /= weights.sum()
    problem = Both(features, error, weights)
    (project, kernel), _ = minimise(problem, (project, kernel), fit.steps, fit.regularisation, fit.forgetting)
    if not update:
        return Target(project, kernel)
    samples = _memory(F.conv2d(features, project), error, weights, max(count, fit.memory_size))
    return _optimised(Target(project, kernel, samples), fit)


def memorise(target: Target, features: Tensor, label: Tensor, fit: Fit, given: bool = False) -> Target:
    """Add a classified frame to the memory (section 3.2.3), and update the filter if it is due.

    A frame in which the object has fewer than 10 pixels is left out.

    Args:
        target: consumed.
        features: of the frame, 1 C h w.
        label: mask of the frame, H W, in [0, 1].
        fit: settings.
        given: whether the mask was given: the frame is never left out, and the filter is updated at once.

    Returns:
        the target model.
    """
    samples, labels = target.samples, label.unsqueeze(0)
    assert samples is not None, "not in training"
    target = replace(target, frames=target.frames + 1)
    if not given and (label > 0.5).sum() < MIN_PIXELS:
        return target
    error = error_of(
        labels,
        (features.shape[-2], features.shape[-1]),
        None if fit.share is None else pixel_weights(labels, fit.share),
    )
    weights, index = samples.weights.clone(), int(samples.weights.argmin())
    if samples.newest is None:
        weights /= 1 - fit.rate
        weights[index] = fit.rate
    else:
        weights[index] = weights[samples.newest] / (1 - fit.rate)
    samples.features[index] = F.conv2d(features, target.project)[0]
    for part in ("products", "linear", "constant"):
        getattr(samples.error, part)[index] = getattr(error, part)[0]
    samples = replace(samples, weights=weights / weights.sum(), newest=index)
    target = replace(target, samples=samples)
    return _optimised(target, fit) if given or target.frames % fit.update_every == 0 else target


class Both:
    """Problem of the first fit: projection and filter."""

    def __init__(self, features: Tensor, error: Error, weights: Tensor) -> None:
        self.features = features
        self.error = error
        self.weights = weights.view(-1, 1, 1, 1)

    def gradient(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """See `Problem.gradient`."""
        self.project, self.filter = tensors
        self.projected = F.conv2d(self.features, self.project)
        return self._pull(self.error.gradient(F.conv2d(self.projected, self.filter, padding=1)))

    def curvature(self, direction: Sequence[Tensor]) -> list[Tensor]:
        """See `Problem.curvature`."""
        project, kernel = direction
        moved = F.conv2d(F.conv2d(self.features, project), self.filter, padding=1)
        return self._pull(self.error.multiply(moved + F.conv2d(self.projected, kernel, padding=1)))

    def objective(self, tensors: Sequence[Tensor], regularisation: Sequence[float]) -> Tensor:
        """Compute the sum of squared residuals with the regularisation."""
        project, kernel = tensors
        scores = F.conv2d(F.conv2d(self.features, project), kernel, padding=1)
        penalty = [(weight * tensor).square().sum() for weight, tensor in zip(regularisation, tensors, strict=True)]
        return (self.weights.flatten() * self.error.value(scores)).sum() + torch.stack(penalty).sum()

    def _pull(self, slope: Tensor) -> list[Tensor]:
        """Apply the transposed Jacobian to K 1 h w."""
        slope = slope * self.weights
        back = F.conv_transpose2d(slope, self.filter, padding=1)
        project = torch.einsum("kchw,kdhw->cd", back, self.features)[:, :, None, None]
        return [project, _filter_gradient(self.projected, self.filter, slope)]


class FilterOnly:
    """Problem of an update: the filter."""

    def __init__(self, projected: Tensor, error: Error, weights: Tensor) -> None:
        self.projected = projected
        self.error = error
        self.weights = weights.view(-1, 1, 1, 1)

    def gradient(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """See `Problem.gradient`."""
        self.filter = tensors[0]
        return self._pull(self.error.gradient(F.conv2d(self.projected, self.filter, padding=1)))

    def curvature(self, direction: Sequence[Tensor]) -> list[Tensor]:
        """See `Problem.curvature`."""
        return self._pull(self.error.multiply(F.conv2d(self.projected, direction[0], padding=1)))

    def _pull(self, slope: Tensor) -> list[Tensor]:
        return [_filter_gradient(self.projected, self.filter, slope * self.weights)]


def _filter_gradient(projected: Tensor, kernel: Tensor, slope: Tensor) -> Tensor:
    gradient: Tensor = conv2d_weight(projected, kernel.shape, slope, padding=1)  # type: ignore[no-untyped-call]
    return gradient


def _optimised(target: Target, fit: Fit) -> Target:
    """Fit the filter to the samples of the memory."""
    samples = target.samples
    assert samples is not None
    used = slice(int((samples.weights > 0).sum()))
    problem = FilterOnly(samples.features[used], samples.error[used], samples.weights[used])
    regularisation = fit.regularisation[1:]
    [kernel], direction = minimise(
        problem, [target.filter], fit.update_steps, regularisation, fit.forgetting, target.direction
    )
    return replace(target, filter=kernel, direction=direction)


def _memory(features: Tensor, error: Error, weights: Tensor, size: int) -> Samples:
    """Make a memory of `size` samples that begins with those of the first frame."""

    def grown(x: Tensor) -> Tensor:
        full = x.new_zeros(size, *x.shape[1:])
        full[: len(x)] = x
        return full

    parts = (grown(x) for x in (error.products, error.linear, error.constant))
    return Samples(grown(features), Error(*parts), grown(weights))
