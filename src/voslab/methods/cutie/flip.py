"""Segments frames together with their mirror images: the clips of a batch are followed by their mirror images."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from voslab.core import Masks
from voslab.nn.aggregation import UNUSED


def with_mirror(x: Float[Tensor, "b ... w"]) -> Float[Tensor, "b2 ... w"]:
    """Append the mirror image of each clip.

    Args:
        x: B … W.

    Returns:
        2B … W.

    Example:
        >>> with_mirror(torch.tensor([[1, 2]]))
        tensor([[1, 2],
                [2, 1]])
    """
    return torch.cat([x, x.flip(-1)])


def masks_with_mirror(masks: Masks) -> Masks:
    """Append the mirror image of the masks of each clip; see `with_mirror`."""
    return Masks(with_mirror(masks.probs), torch.cat([masks.slot_mask, masks.slot_mask]))


def average_with_mirror(logits: Float[Tensor, "b2 c H W"]) -> Float[Tensor, "b c H W"]:
    """Average the probabilities of clips and of their mirror images.

    Args:
        logits: 2B (O+1) H W, aggregated.

    Returns:
        logits B (O+1) H W.

    Example:
        >>> average_with_mirror(torch.tensor([[0.9, 0.2], [0.4, 0.7]]).log().view(2, 1, 1, 2)).shape
        torch.Size([1, 1, 1, 2])
    """
    straight, mirrored = logits.softmax(1).chunk(2)
    return ((straight + mirrored.flip(-1)) / 2).log().clamp(min=UNUSED)
