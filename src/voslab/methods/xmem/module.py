"""XMem's LightningModule: bootstrapped cross-entropy and Dice loss on the aggregated output (section 4)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from voslab.core import VOID
from voslab.nn.aggregation import LIMIT
from voslab.nn.precision import at_least_float32
from voslab.training.module import BootstrappedModule


class XMemModule(BootstrappedModule):
    """Unrolls eight frames, of which three at a time are read; see `dice_of_slots`."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of one frame: bootstrapped cross-entropy, plus the Dice loss of all slots."""
        return super().loss(logits, labels) + dice_of_slots(logits, labels)


def dice_of_slots(logits: Float[Tensor, "b c H W"], labels: Int[Tensor, "b H W"]) -> Float[Tensor, ""]:
    """Soft Dice loss, 1 - (2|P∩G| + 1) / (|P| + |G| + 1), mean over all slots and samples.

    Unlike `voslab.nn.losses.dice`, slots without a visible object count too, as in the published code.

    Args:
        logits: B (O+1) H W, aggregated, background first.
        labels: B H W, int64, 0..O or `VOID`.

    Returns:
        scalar in [0, 1].

    Example:
        >>> import torch
        >>> dice_of_slots(torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4, dtype=torch.int64))
        tensor(0.3200)
    """
    not_void = (labels != VOID).unsqueeze(1)
    slots = torch.arange(1, logits.shape[1], device=labels.device).view(1, -1, 1, 1)
    # An unused slot has the probability zero, clipped, in the published code.
    predicted = at_least_float32(logits).clamp(min=-LIMIT).softmax(1)[:, 1:] * not_void
    truth = (labels.unsqueeze(1) == slots).to(predicted.dtype)
    overlap, areas = (predicted * truth).sum((2, 3)), predicted.sum((2, 3)) + truth.sum((2, 3))
    return (1 - (2 * overlap + 1) / (areas + 1)).mean()
