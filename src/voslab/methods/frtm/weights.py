"""Published FRTM checkpoints (`rn18_all.pth`, `rn101_ytvos.pth`, …), which hold the refiner only -> our names."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from voslab.core.weights import rename

LEVELS = ("layer5", "layer4", "layer3", "layer2")
"""Published names of the levels, from stride 32 to stride 4."""
PARTS = {
    "TSE": {
        "reduce.": "encoder.reduce.",
        "transform.0.": "encoder.fuse.",
        "transform.2.": "encoder.conv2.",
        "transform.4.": "encoder.conv3.",
    },
    **{
        f"RRB{number}": {
            "conv1x1.": f"block{number}.project.",
            "bblock.0.": f"block{number}.conv1.",
            "bblock.1.": f"block{number}.bn1.",
            "bblock.3.": f"block{number}.conv2.",
        }
        for number in (1, 2)
    },
    "CAB": {"convreluconv.": "attention.weigh."},
}
KEY = re.compile(r"refiner\.(\w+)\.(layer\d)\.(.+)")
ENCODER = "encoder."


def convert(published: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename the keys of a published refiner and reorder input channels; None if it is not FRTM's."""
    published = {key.removeprefix("module."): tensor for key, tensor in published.items()}
    if not {f"refiner.{part}.{level}" for part in PARTS for level in LEVELS} <= {
        ".".join(key.split(".")[:3]) for key in published
    }:
        return None
    ours = {}
    for key, tensor in published.items():
        match = KEY.fullmatch(key)
        if match is None or match[1] not in PARTS or match[2] not in LEVELS:
            ours[rename(key, {"refiner.project.": "refiner."})] = tensor
            continue
        # The score is the last input channel, ours the first.
        tensor = torch.cat([tensor[:, -1:], tensor[:, :-1]], 1) if match[3] == "transform.0.weight" else tensor
        ours[f"refiner.levels.{LEVELS.index(match[2])}.{rename(match[3], PARTS[match[1]])}"] = tensor
    return ours


def convert_encoder(published: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Extract the frame encoder of a classification network or of our own checkpoint; None if there is none."""
    prefix = ENCODER if f"{ENCODER}conv1.weight" in published else ""
    if f"{prefix}conv1.weight" not in published:
        return None
    inside = {key.removeprefix(prefix): tensor for key, tensor in published.items() if key.startswith(prefix)}
    return {key: tensor for key, tensor in inside.items() if not key.startswith("fc.")}
