"""Reads the golden vectors: numbers computed by published implementations under the deterministic weights of `fill`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tests.golden import fill
from voslab.core import Masks
from voslab.core.method import Convert

HERE = Path(__file__).parent
Network = TypeVar("Network", bound=torch.nn.Module)


class Golden:
    def __init__(self, name: str) -> None:
        fill.self_check()
        self.name = name
        self.meta: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
        with np.load(HERE / f"{name}.npz") as file:
            self.arrays: dict[str, NDArray[Any]] = dict(file)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def check(self, name: str, value: torch.Tensor | NDArray[Any], absolute: bool = False) -> None:
        """Compare at the tolerance that goes with the stored precision."""
        entry = self.meta["arrays"][name]
        full = value.detach().numpy() if isinstance(value, torch.Tensor) else value
        assert list(full.shape) == entry["full_shape"], name
        cut = full[_slices(entry["subsample"])]
        stored = self[name]
        tolerance = 1e-3 if stored.dtype == np.float16 else 1e-4
        if not absolute:
            tolerance *= max(1.0, entry["max_abs"])
        assert np.abs(cut - stored.astype(np.float64)).max() <= tolerance, name

    def check_labels(self, name: str, labels: NDArray[Any]) -> None:
        """Equal wherever the stored label is not 255, the mark of a near tie."""
        stored = self[name]
        decided = stored != 255
        assert decided.mean() > 0.5
        assert (labels[decided] == stored[decided]).all(), name

    def frames(self, case: dict[str, Any]) -> torch.Tensor:
        made = fill.frames(case["seed"], case.get("frames", 1), self.meta["height"], self.meta["width"])
        assert fill.array_crc(np.round(255 * made).astype(np.uint8)) == case["frames_crc"]
        return torch.from_numpy(made)

    def given(self) -> tuple[torch.Tensor, Masks]:
        """The video and the masks of its first frame."""
        probs = torch.from_numpy(self["masks_u8"]).float().unsqueeze(0)
        return self.frames(self.meta), Masks(probs, torch.ones(1, probs.shape[1], dtype=torch.bool))

    def load(self, network: Network, convert: Convert, keys: str | None = None) -> Network:
        """Give a network the published weights these numbers were computed with; `keys` names their list."""
        weights = published(keys or self.name)
        assert fill.digest(weights) == self.meta["weights_digest"]
        ours = convert(weights)
        assert ours is not None
        network.load_state_dict(ours)
        return network.eval()


def published(keys: str, section: str | None = None, network: str | None = None) -> dict[str, torch.Tensor]:
    """A published state dict with golden values, from its list of keys and shapes."""
    state: dict[str, torch.Tensor] = {}
    current = None
    for line in (HERE / "keys" / f"{keys}.txt").read_text().splitlines():
        if line.startswith("#"):
            current = line.strip("# ")
        elif line.strip() and (section is None or section == current):
            key, shape, _ = line.split()
            sizes = [] if shape == "scalar" else [int(size) for size in shape.split("x")]
            state[key] = torch.zeros(sizes)
    filled: dict[str, torch.Tensor] = fill.fill_(state, network or keys)
    return filled


def _slices(text: str) -> tuple[slice, ...]:
    if not text:
        return (slice(None),)
    return tuple(
        slice(*(int(part) if part else None for part in axis.split(":"))) for axis in text.strip("[]").split(",")
    )
