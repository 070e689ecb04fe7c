"""FRTM against numbers of the published implementation. Target models and the video are compared in float64."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.golden import fill
from tests.golden.support import HERE, Golden, _slices, published
from voslab.core import Frame, Masks
from voslab.core.types import IMAGENET_MEAN, IMAGENET_STD
from voslab.methods.frtm import target as target_model
from voslab.methods.frtm.augmentation import Box, Move, blur_kernel, move_matrix
from voslab.methods.frtm.least_squares import error_of, pixel_weights
from voslab.methods.frtm.network import FRTM
from voslab.methods.frtm.optimiser import minimise
from voslab.methods.frtm.target import Both, Fit, Target, fit_target
from voslab.methods.frtm.weights import convert

REGULARISATION = (1e-4, 1e-2)


def check(golden: Golden, name: str, value: Tensor) -> None:
    """Compare at the tolerance of a run in float64."""
    entry, stored = golden.meta["arrays"][name], golden[name]
    cut = value.numpy()[_slices(entry["subsample"])]
    assert list(value.shape) == entry["full_shape"], name
    tolerance = 1e-6 if stored.dtype == np.float32 else 1e-8
    assert np.abs(cut - stored).max() <= tolerance * max(1.0, entry["max_abs"]), name


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(fill.values(name, shape, "weight").astype(np.float32)).double()


def start(index: int, inputs: int, channels: int) -> tuple[Tensor, Tensor]:
    """Initial tensors of the target model of an object."""
    shapes = {"project": (channels, inputs, 1, 1), "filter": (1, channels, 3, 3)}
    project, kernel = (drawn(f"target{index}.{name}.weight", shape) for name, shape in shapes.items())
    return project, kernel


def weights() -> dict[str, Tensor]:
    """The refiner and the extractor, of two sections of one list of keys."""
    refiner, extractor = published("frtm", "refiner"), published("frtm", "resnet18", "resnet18")
    for name in ("frtm", "frtm_video"):
        meta = Golden(name).meta
        assert fill.digest(refiner) == meta["weights_digest"]
        assert fill.digest(extractor) == meta["extractor_digest"]
    ours = convert(refiner)
    assert ours is not None
    return {**ours, **{f"encoder.{key}": tensor for key, tensor in extractor.items()}}


def frames(golden: Golden) -> Tensor:
    """The frames as 8-bit numbers, in [0, 1]."""
    return (golden.frames(golden.meta) * 255).round().to(torch.uint8).double() / 255


@torch.no_grad()
def test_extractor_and_refiner() -> None:
    golden = Golden("frtm")
    network = FRTM("resnet18").eval()
    network.load_state_dict(weights())
    features = network.encode(frames(golden)[1:].float())
    for number, feature in enumerate(features, 2):
        golden.check(f"frame1_layer{number}", feature)
    scores = torch.from_numpy(golden["scores"])
    shared, outputs = network.refiner.forward_shared(features), {}
    for number, level in zip((5, 4, 3, 2), network.refiner.levels, strict=True):
        for name, part in (("tse", level.encoder), ("cab", level.attention), ("out", level)):
            part.register_forward_hook(
                lambda _, __, output, name=f"{name}_layer{number}": outputs.update({name: output})
            )
    logits = network.refiner(scores, shared, (90, 150))
    golden.check("logits", logits[:, None])
    assert len(outputs) == 12
    for name, output in outputs.items():
        golden.check(name, output)


@pytest.mark.parametrize("forgetting", [750, 75])
def test_target_model(forgetting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first fit, its first update, and twelve frames with three updates."""
    golden, suffix = Golden("frtm_target"), "" if forgetting == 750 else f"_F{forgetting}"
    meta = golden.meta
    features, labels = (torch.from_numpy(golden[name]).double() for name in ("features", "labels"))
    fit = Fit(
        *(meta["init_iters"], meta["update_iters"], meta["memory_size"], meta["train_skipping"]),
        *(meta["learning_rate"], meta["hinge_tf"], meta["filter_reg"], forgetting),
    )
    project, kernel = start(0, meta["in_channels"], meta["c_channels"])
    made = fit_target(features, labels, project, kernel, fit, update=True)
    check(golden, f"project_after_init{suffix}", made.project)
    check(golden, f"filter_after_update{suffix}", made.filter)
    if not suffix:
        check(golden, "scores", made.scores(features)[:, 0])
    filters, memory, scores = [], [weights_of(made)], torch.empty(0)
    for index in range(12):
        noise = np.random.default_rng([meta["seed"], 500 + index]).standard_normal(features[:1].shape)
        frame = features[index % 5, None].float() * (1 - 0.05 * index) + 0.3 * torch.from_numpy(noise).float()
        frame = frame.double()
        masks = fill.masks(meta["seed"] + 7 * index + 1, 3, *labels.shape[1:])
        label = torch.from_numpy(0.9 * (masks.max(0) > 0) * (index != 5))
        scores = made.scores(frame)[0, 0]
        made = target_model.memorise(made, frame, label, fit)
        filters.append(made.filter)
        memory.append(weights_of(made))
    check(golden, f"filter_per_frame{suffix}", torch.stack(filters))
    if not suffix:
        check(golden, "memory_weights", torch.stack(memory))
        check(golden, "last_scores", scores)


def weights_of(target: Target) -> Tensor:
    assert target.samples is not None
    return target.samples.weights


def test_every_step_of_the_first_fit() -> None:
    golden = Golden("frtm_target")
    features, labels = (torch.from_numpy(golden[name]).double() for name in ("features", "labels"))
    squared = pixel_weights(labels, golden.meta["hinge_tf"])
    check(golden, "pixel_weights", squared.sqrt())
    problem = Both(features, error_of(labels, (8, 11), squared), torch.tensor([2.0, 1, 1, 1, 1]).double() / 6)
    tensors: Any = start(0, 64, 24)
    last, filters, sums, objectives = None, [], [], []
    for steps in golden.meta["init_iters"]:
        tensors, last = minimise(problem, tensors, [steps], REGULARISATION, 750, last)
        filters.append(tensors[1])
        sums.append(tensors[0].abs().sum())
        objectives.append(problem.objective(tensors, REGULARISATION))
    # The last row of these is the first update.
    assert np.abs(torch.stack(filters).numpy() - golden["filter_per_step"][:5]).max() <= 1e-8
    assert np.allclose(objectives, golden["objective_per_step"][:5], rtol=1e-8, atol=0)
    check(golden, "project_per_step_abs_sums", torch.stack(sums))


class Rounded(nn.Module):
    """Normalises images in [0, 1] with the published constants, which are rounded to float32."""

    def forward(self, image: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        scale = (1 / std) * torch.tensor(1 / 255)
        return 255 * image * scale.double() - (mean / std).double()


class Fixed(FRTM):
    """Augments by flips and shifts, and starts from given target models."""

    def __init__(self, config: dict[str, Any]) -> None:
        fit = {
            "fit_steps": config["init_iters"],
            "update_steps": config["update_iters"],
            "rate": config["learning_rate"],
        }
        numbers = {"channels": config["c_channels"], "memory_size": config["memory_size"]}
        super().__init__("resnet18", **fit, **numbers, update_every=config["train_skipping"], share=config["hinge_tf"])
        self.normalise = Rounded()  # type: ignore[assignment]
        self.count = 0

    def augment(self, image: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
        assert count == 5
        found = []
        for x in (image, mask):
            shifted = x.roll((7, 11), (-2, -1)), x.roll((-9, 5), (-2, -1))
            found.append(torch.stack([x, x.flip(-1), *shifted, x.flip(-2)]))
        return found[0], found[1]

    def initial_tensors(self, inputs: int) -> tuple[Tensor, Tensor]:
        self.count += 1
        return start(self.count, inputs, self.channels)


@torch.no_grad()
def test_video() -> None:
    golden = Golden("frtm_video")
    late, count = golden.meta["late_object_frame"], golden.meta["objects"]
    network = Fixed(golden.meta["config"]).double().eval()
    network.load_state_dict(weights())
    images, planes = frames(golden), torch.from_numpy(golden["masks"]).double().unsqueeze(0)
    given = Masks(planes, torch.ones(1, count, dtype=torch.bool))
    first = count - (late is not None)
    state = network.begin(Frame(0, images[:1]), Masks(planes[:, :first], given.slot_mask[:, :first]))
    shown, probs, scores, maps = [state.masks.probs[0] > 0.5], [], [], []
    for index in range(1, len(images)):
        frame = Frame(index, images[index : index + 1])
        logits, state = network.step(frame, state)
        probs.append(state.probs[0])
        scores.append(network.classify(state.f16, state)[0, :, 0])
        if index == late:
            plane = planes[:, first:].roll((3, 5), (2, 3))
            state = network.add(frame, Masks(plane, given.slot_mask[:, first:]), state)
        maps.append(state.masks.probs[0])
        shown.append(logits.argmax(1) == torch.arange(1, logits.shape[1]).view(-1, 1, 1))
    # The last frame is memorised by the step after it.
    [targets] = network.memorise(state).targets
    check(golden, "probs", torch.cat(probs))
    check(golden, "scores", torch.cat(scores))
    labels = np.stack([labelled(each) for each in shown])
    golden.check_labels("labels", labels)
    clear = golden["labels"][1:, 1::3, 1::3] != 255
    stored = torch.stack(maps).numpy()[:, :, 1::3, 1::3]
    assert np.abs(np.where(clear[:, None], stored - golden["maps"][:, 1:], 0)).max() <= 1e-6
    made = [target for target in targets if target is not None]
    check(golden, "filters", torch.stack([target.filter[0] for target in made]))
    check(golden, "memory_weights", torch.stack([weights_of(target) for target in made]))
    check(golden, "projects_abs_sum", torch.stack([target.project.abs().sum() for target in made]))


def labelled(masks: Tensor) -> NDArray[np.int64]:
    slots = torch.arange(1, len(masks) + 1).view(-1, 1, 1)
    return (masks * slots).amax(0).numpy()


CASES = json.loads((HERE / "frtm_transforms.json").read_text())


@pytest.mark.parametrize("index", range(len(CASES["cases"])))
def test_moves(index: int) -> None:
    case = CASES["cases"][index]
    spec = {name: tuple(value) if isinstance(value, list) else value for name, value in case["spec"].items()}
    move = replace(Move(), **spec)
    box = Box(*case.get("bbox", CASES["bbox_center_x_y_w_h"]))
    matrix = move_matrix(move, box, tuple(CASES["image_h_w"]), case["limit_scale"])
    np.testing.assert_allclose(matrix, case["matrix"], rtol=1e-9, atol=1e-9)
    if "kernel" in case:
        np.testing.assert_allclose(blur_kernel(move), case["kernel"], atol=1e-7)
