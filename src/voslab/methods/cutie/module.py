"""Cutie's LightningModule: cross-entropy and Dice loss at sampled points, also of masks from intermediate features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import VOID, Clip
from voslab.engine.padding import pads
from voslab.methods.cutie.losses import draw_points, point_losses
from voslab.methods.cutie.network import Cutie
from voslab.methods.cutie.state import CutieState
from voslab.nn.aggregation import aggregate_product
from voslab.training.module import VOSModule

AUXILIARY_WEIGHT = 0.01


class CutieModule(VOSModule):
    """Trains with the losses of all predicted masks, of which those of intermediate features weigh 0.01 each."""

    segmenter: Cutie

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of one frame, all of whose slots are in use; see `point_losses`."""
        return self._sampled_loss(logits, labels, torch.ones_like(logits[:, 1:, 0, 0], dtype=torch.bool))

    def frame_loss(self, logits: Tensor, state: CutieState, labels: Tensor, clip: Clip) -> Tensor:
        """Compute the loss of a frame and of the masks that its intermediate features predict, for slots in use."""
        loss = self._sampled_loss(logits, labels, clip.slot_mask)
        assert state.auxiliary is not None, "a state of a training"
        left, right, top, bottom = pads(
            (labels.shape[1], labels.shape[2]), self.segmenter.stride, self.segmenter.padding
        )
        padded = F.pad(labels, (left, right, top, bottom), value=VOID)
        for log_odds in state.auxiliary.unbind(2):
            level = aggregate_product(log_odds, clip.slot_mask)
            loss = loss + AUXILIARY_WEIGHT * self._sampled_loss(level, padded, clip.slot_mask)
        return loss

    def _sampled_loss(self, logits: Tensor, labels: Tensor, slot_mask: Tensor) -> Tensor:
        """Sum of cross-entropy and Dice loss, mean over samples. A sample has as many channels as it has objects."""
        losses = []
        for sample, truth, slots in zip(logits, labels, slot_mask, strict=True):
            channels = F.pad(slots, (1, 0), value=True)
            # Labels of the slots in use, without gaps.
            renumbered = torch.where(truth == VOID, VOID, (channels.long().cumsum(0) - 1)[truth * (truth != VOID)])
            own = sample[channels].unsqueeze(0)
            entropy, dice = point_losses(own, renumbered.unsqueeze(0), draw_points(own, self.segmenter.train_points))
            losses.append(entropy + dice)
        return torch.stack(losses).mean()
