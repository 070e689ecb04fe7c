"""A training step of Cutie, and its point sampling, against numbers of the published implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.golden import fill
from tests.golden.support import Golden
from voslab.core import Frame, Masks
from voslab.methods.cutie.losses import choose_points, point_losses, sample
from voslab.methods.cutie.module import AUXILIARY_WEIGHT
from voslab.methods.cutie.network import Cutie
from voslab.methods.cutie.weights import convert
from voslab.nn.aggregation import aggregate_product

GRADIENTS = {
    "aux_computer": ("auxiliary",),
    "key_proj": ("key_input", "key", "shrinkage", "selection"),
    "mask_decoder": ("decoder",),
    "mask_encoder": ("mask_encoder", "value_fuser", "deep_update"),
    "object_summarizer": ("summariser",),
    "object_transformer": ("transformer",),
    "pix_feat_proj": ("pixel",),
    "pixel_encoder": ("encoder",),
    "pixel_fuser": ("pixel_fuser",),
}


@pytest.mark.parametrize("channels", [2, 4])
def test_uncertain_points_are_chosen(channels: int) -> None:
    golden = Golden("cutie_points")
    count, part = golden.meta["num_points"], golden.meta["importance_sample_ratio"]
    rng = np.random.default_rng([golden.meta["seed"], 808, channels])
    logits = 3 * rng.standard_normal((2, channels, 12, 15)).astype(np.float32)
    numbers = (round(golden.meta["oversample_ratio"] * count), count - round(part * count))
    candidates, others = (torch.from_numpy(rng.random((2, n, 2))).float() for n in numbers)
    points = choose_points(torch.from_numpy(logits), candidates, others, round(part * count))
    golden.check(f"points_{channels}", points)
    golden.check(f"sampled_{channels}", sample(torch.from_numpy(logits), points))


class Step:
    """The published training step: two frames of a clip after its first one, two objects and an unused slot."""

    def __init__(self, deep: int) -> None:
        self.golden = Golden("cutie_train")
        case = self.golden.meta
        images, masks = self.golden.frames(case), fill.masks(case["seed"], 2, case["height"], case["width"])
        assert fill.array_crc(masks) == case["masks_crc"]
        labels = torch.from_numpy(fill.label_map(masks)).long()
        self.truth = torch.stack([labels.roll((2 * t, -3 * t), (0, 1)) for t in range(3)])
        self.slots = torch.tensor([[True, True, False]])
        self.network = self.golden.load(Cutie(train_deep=float(deep)), convert, "cutie").train()
        for module in self.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        state = self.network.begin(Frame(0, images[:1]), Masks.from_labels(self.truth[:1], self.slots))
        self.logits, self.states = [], []
        for index in (1, 2):
            logits, state = self.network.step(Frame(index, images[index : index + 1]), state)
            self.logits.append(logits)
            self.states.append(state)

    def levels(self, index: int) -> list[torch.Tensor]:
        """Aggregated auxiliary logits of a frame: those of the sensory memory, and four of the transformer."""
        auxiliary = self.states[index].auxiliary
        assert auxiliary is not None
        return [aggregate_product(level, self.slots) for level in auxiliary.unbind(2)]

    def gradient_norm(self, parts: tuple[str, ...]) -> float:
        parameters = [p for part in parts for p in self.network.get_submodule(part).parameters()]
        return float(torch.stack([p.grad.square().sum() for p in parameters if p.grad is not None]).sum().sqrt())


@pytest.mark.parametrize("deep", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_training_step(deep: int) -> None:
    step = Step(deep)
    golden, expected = step.golden, step.golden.meta["cases"][f"deep{deep}"]
    for index in (1, 2):
        golden.check(f"logits_{index}_deep{deep}", step.logits[index - 1][0, :3])
    sensory, *queries = step.levels(1)
    golden.check(f"sensory_logits_2_deep{deep}", sensory[0, :3])
    golden.check(f"query_logits_2_deep{deep}", torch.stack([level[0, :3] for level in queries], 1))
    points = torch.from_numpy(golden["points"]).float()
    losses: dict[str, Any] = {}
    for index in (0, 1):
        names = ["loss_{}", "aux_sensory_{}", *(f"aux_query_{{}}_l{level}" for level in range(4))]
        maps = [step.logits[index], *step.levels(index)]
        for name, logits, weight in zip(names, maps, [1.0, *[AUXILIARY_WEIGHT] * 5], strict=True):
            found = point_losses(logits[:, :3], step.truth[index + 1 : index + 2], points[index : index + 1])
            for kind, value in zip(("ce", "dice"), found, strict=True):
                key = name.format(kind)
                losses[key] = losses.get(key, 0) + weight * value
    losses["total_loss"] = sum(losses.values())
    for name, value in expected["losses"].items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5), name
    losses["total_loss"].backward()
    for name, parts in GRADIENTS.items():
        assert step.gradient_norm(parts) == pytest.approx(expected["gradient_norms"][name], rel=1e-3), name
