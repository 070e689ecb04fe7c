"""Decodes propagated masks (section 4.1, Eq. 8 and 9); 661,835 parameters, as published.

Shapes: B clips, O objects, C channels of F's features, h w cells of a grid at a quarter of the frame's size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.aggregation import LIMIT
from voslab.nn.blocks import ResBlock
from voslab.nn.boxes import Box
from voslab.nn.precision import at_least_float32

CELL = 4
"""Pixels per cell side."""
OBJECTS = 10
"""Objects per pass; the decoder has a channel for each and one for the background. Unused channels are zero."""


class Confidence(nn.Module):
    """Confidence S of Eq. 8: similarity of a cell's own feature and the feature warped to it."""

    def __init__(self, channels: int = 256, width: int = 64) -> None:
        super().__init__()
        self.own = nn.Conv2d(channels, width, 1)
        # Named as in committed checkpoints: the projection of the warped features.
        self.carried = nn.Conv2d(channels, width, 1)

    def forward(self, features: Tensor, warped: Tensor) -> Tensor:
        """Return σ(Σ A(V) B(V̂)), B 1 h w, float32, of V and V̂, B C h w."""
        own: Tensor = self.own(features)
        other: Tensor = self.carried(warped)
        return (at_least_float32(own) * at_least_float32(other)).sum(1, keepdim=True).sigmoid()


class Decoder(nn.Module):
    """Decoder D of Eq. 9.

    Args:
        channels: Channels of the features; 256 as published.
        confidence: Weight propagated masks by their confidence; otherwise they enter twice, unweighted.
    """

    def __init__(self, channels: int = 256, confidence: bool = True) -> None:
        super().__init__()
        self.confidence = Confidence(channels) if confidence else None
        self.conv1 = nn.Conv2d(3 * (OBJECTS + 1) + channels, 128, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(128, 64, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(ResBlock(64, 64), ResBlock(64, 64), ResBlock(64, 64))
        self.predict = nn.Conv2d(64, OBJECTS + 1, 1)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Initialise the output near the log-odds 4 P̄ - 2, so that an untrained decoder returns the corrected masks.

        The first channels pass P̄ through, and the residual branches are small. All other weights are random; those of
        the last layer are scaled by a tenth.
        """
        for layer, inputs in ((self.conv1, slice(-OBJECTS, None)), (self.conv2, slice(OBJECTS))):
            layer.weight[:OBJECTS] = 0
            layer.weight[:OBJECTS, inputs, 1, 1].diagonal().fill_(1)
        for block in self.blocks:
            block.get_parameter("conv2.weight").mul_(0.1)
            nn.init.zeros_(block.get_parameter("conv2.bias"))
        self.predict.weight.mul_(0.1)
        self.predict.weight[:OBJECTS, :OBJECTS, 0, 0].diagonal().add_(4)
        nn.init.constant_(self.predict.get_parameter("bias"), -2)

    def weigh(self, features: Tensor, warped: Tensor | None) -> Tensor | None:
        """Compute the confidence of the propagated masks, shared by all objects.

        Args:
            features: V of this frame, B C h w.
            warped: V̂, B C h w; may be None if the decoder has no confidence.

        Returns:
            B 1 h w; None if the decoder has no confidence.
        """
        if self.confidence is None:
            return None
        assert warped is not None, "confidence compares with warped features"
        weight: Tensor = self.confidence(features, warped)
        return weight

    def forward(self, probs: Tensor, weighted: Tensor, features: Tensor, corrected: Tensor) -> Tensor:
        """Decode up to ten objects in one pass.

        Args:
            probs: P̂, B 11 h w, background first.
            weighted: Ṗ, B 11 h w.
            features: V of this frame, B C h w.
            corrected: P̄, B 11 h w.

        Returns:
            B 11 h w: log-odds of objects 1..10 without background; the last channel is unused.
        """
        # conv1 over [probs, weighted, features, corrected] without concatenating the features.
        channels = [2 * (OBJECTS + 1), features.shape[1], OBJECTS + 1]
        before, middle, after = torch.split(self.conv1.weight, channels, 1)
        masks = torch.cat([probs, weighted, corrected], 1)
        x = F.conv2d(features, middle, padding=1)
        x = x + F.conv2d(masks, torch.cat([before, after], 1), padding=1)
        return self.predict(self.blocks(self.conv2(x)))  # type: ignore[no-any-return]

    def log_odds(self, probs: Tensor, weight: Tensor | None, features: Tensor, corrected: Tensor) -> Tensor:
        """Decode any number of objects in passes of ten. All other objects are background to a pass.

        Args:
            probs: P̂, B (O+1) h w, aggregated.
            weight: see `weigh`.
            features: V of this frame, B C h w.
            corrected: P̄, B (O+1) h w, aggregated.

        Returns:
            B O 4h 4w, float32: log-odds of each object against its background.
        """
        objects = probs.shape[1] - 1
        parts = []
        for start in range(0, objects, OBJECTS):
            propagated, patched = _window(probs, start), _window(corrected, start)
            weighted = propagated if weight is None else propagated * weight
            odds = self(propagated, weighted, features, patched)[:, : min(OBJECTS, objects - start)]
            parts.append(F.interpolate(at_least_float32(odds), scale_factor=CELL, mode="bilinear", align_corners=False))
        return torch.cat(parts, 1)

    def log_odds_in(
        self, box: Box | None, features: Tensor, warped: Tensor | None, probs: Tensor, corrected: Tensor
    ) -> Tensor:
        """Decode a box of the grid only; everything outside is background.

        The decoder sees 8 cells around a cell, so that inside, 8 cells from the border of the box, nothing changes.

        Args:
            box: rows and columns of cells; None: nothing is decoded.
            features: V of this frame, B C h w.
            warped: see `weigh`.
            probs: P̂, B (O+1) h w, aggregated.
            corrected: P̄, B (O+1) h w, aggregated.

        Returns:
            see `log_odds`.
        """
        batch, channels, height, width = probs.shape
        odds = probs.new_full((batch, channels - 1, CELL * height, CELL * width), -LIMIT)
        if box is None:
            return odds
        near, masks, patched = box.cut(features), box.cut(probs), box.cut(corrected)
        weight = self.weigh(near, None if warped is None else box.cut(warped))
        return box.paste(self.log_odds(masks, weight, near, patched), odds, CELL)


def _window(probs: Tensor, start: int) -> Tensor:
    """Select the background and up to ten objects from `start` of B (O+1) h w: B 11 h w."""
    own = probs[:, 1 + start : 1 + start + OBJECTS]
    others = probs[:, 1 : 1 + start].sum(1, keepdim=True) + probs[:, 1 + start + OBJECTS :].sum(1, keepdim=True)
    return F.pad(torch.cat([probs[:, :1] + others, own], 1), (0, 0, 0, 0, 0, OBJECTS - own.shape[1]))
