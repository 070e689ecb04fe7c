"""The decoder of carried masks (section 4.1, Eq. 8 and 9), in the published shape: 661,835 parameters.

Shapes: B clips, O objects, C channels of F's features, h w cells of a grid at a quarter of the frame's size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.blocks import ResBlock

OBJECTS = 10
"""Objects in one pass. Their channels and the background's are fixed, zero where there are fewer."""


class Confidence(nn.Module):
    """S of Eq. 8: how alike a cell's own feature and the one carried to it are."""

    def __init__(self, channels: int = 256, width: int = 64) -> None:
        super().__init__()
        self.own = nn.Conv2d(channels, width, 1)
        self.carried = nn.Conv2d(channels, width, 1)

    def forward(self, features: Tensor, carried: Tensor) -> Tensor:
        """V and V̂, B C h w -> σ(Σ A(V) B(V̂)), B 1 h w, float32."""
        own: Tensor = self.own(features)
        other: Tensor = self.carried(carried)
        return (own.float() * other.float()).sum(1, keepdim=True).sigmoid()


class Decoder(nn.Module):
    """D of Eq. 9.

    Args:
        channels: of the features; 256 as published.
        confidence: whether carried masks are weighted by their confidence; without, they enter twice as they are.
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
        """Begin near log-odds 4 P̄ - 2, so that the start is about what was carried and corrected.

        The first channels pass P̄ on, the blocks little but their input. All other weights are random, those of the
        last layers a tenth of it.
        """
        passed = torch.arange(OBJECTS)
        for layer, inputs in ((self.conv1, passed - OBJECTS), (self.conv2, passed)):
            layer.weight[passed] = 0
            layer.weight[passed, inputs, 1, 1] = 1
        for block in self.blocks:
            block.get_parameter("conv2.weight").mul_(0.1)
            nn.init.zeros_(block.get_parameter("conv2.bias"))
        self.predict.weight.mul_(0.1)
        self.predict.weight[passed, passed] += 4
        nn.init.constant_(self.predict.get_parameter("bias"), -2)

    def weigh(self, features: Tensor, carried: Tensor | None) -> Tensor | None:
        """Confidence of this frame's carried masks, the same for all objects: B 1 h w; None without."""
        if self.confidence is None:
            return None
        assert carried is not None, "confidence compares with carried features"
        weight: Tensor = self.confidence(features, carried)
        return weight

    def forward(self, probs: Tensor, weighted: Tensor, features: Tensor, corrected: Tensor) -> Tensor:
        """One pass.

        Args:
            probs: P̂, B 11 h w, background first.
            weighted: Ṗ, B 11 h w.
            features: V of this frame, B C h w.
            corrected: P̄, B 11 h w.

        Returns:
            B 11 h w: log-odds of objects 1..10, background is no part of it; the last channel is never read.
        """
        # conv1 over [probs, weighted, features, corrected], without joining the wide features to the masks.
        channels = [2 * (OBJECTS + 1), features.shape[1], OBJECTS + 1]
        before, of_features, after = torch.split(self.conv1.weight, channels, 1)
        masks = torch.cat([probs, weighted, corrected], 1)
        x = F.conv2d(features, of_features, padding=1)
        x = x + F.conv2d(masks, torch.cat([before, after], 1), padding=1)
        return self.predict(self.blocks(self.conv2(x)))  # type: ignore[no-any-return]

    def log_odds(self, probs: Tensor, weight: Tensor | None, features: Tensor, corrected: Tensor) -> Tensor:
        """As many passes as it takes, ten objects each; to each pass all other objects are background.

        Args:
            probs: P̂, B (O+1) h w, aggregated.
            weight: see `weigh`.
            features: V of this frame, B C h w.
            corrected: P̄, B (O+1) h w, aggregated.

        Returns:
            float32 log-odds B O 4h 4w of each object against its own background.
        """
        objects = probs.shape[1] - 1
        parts = []
        for start in range(0, objects, OBJECTS):
            carried, patched = _window(probs, start), _window(corrected, start)
            weighted = carried if weight is None else carried * weight
            odds = self(carried, weighted, features, patched)[:, : min(OBJECTS, objects - start)]
            parts.append(F.interpolate(odds.float(), scale_factor=4, mode="bilinear", align_corners=False))
        return torch.cat(parts, 1)


def _window(probs: Tensor, start: int) -> Tensor:
    """Background and objects `start`…, ten at most, of B (O+1) h w -> B 11 h w."""
    own = probs[:, 1 + start : 1 + start + OBJECTS]
    others = probs[:, 1 : 1 + start].sum(1, keepdim=True) + probs[:, 1 + start + OBJECTS :].sum(1, keepdim=True)
    return F.pad(torch.cat([probs[:, :1] + others, own], 1), (0, 0, 0, 0, 0, OBJECTS - own.shape[1]))
