"""A tiny network of the kind of the default weights."""

from __future__ import annotations

from typing import Any

import torch

from voslab.methods.stcn.network import STCN


def light(**parameters: Any) -> STCN:
    torch.manual_seed(0)
    tiny: dict[str, Any] = {"backbone": "efficientnet_lite0", "mask_backbone": "light", "width": 8, "key_channels": 8}
    rest = {"value_channels": 16, "decoder_width": 8, "memory_previous": True, "previous_mask": True}
    return STCN(**{**tiny, **rest, **parameters}).eval()
