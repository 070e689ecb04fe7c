from __future__ import annotations

import itertools

import pytest
import torch

from voslab.core import Frame, Masks
from voslab.methods.crvos.network import CRVOS
from voslab.methods.crvos.weights import convert


def small(**parameters: object) -> CRVOS:
    torch.manual_seed(0)
    return CRVOS(**{"backbone": "resnet18", "norm": "group", "width": 8, "refine_width": 8, **parameters}).eval()  # type: ignore[arg-type]


def masks(objects: int, columns: int = 8) -> Masks:
    probs = torch.zeros(1, objects, 32, 48)
    for i in range(objects):
        probs[0, i, :, columns * i : columns * (i + 1)] = 1
    return Masks(probs, torch.ones(1, objects, dtype=torch.bool))


@pytest.mark.parametrize(
    ("specifier", "refine"), list(itertools.product(["none", "mask", "clue"], ["deconv", "bilinear"]))
)
@torch.no_grad()
def test_every_row_of_table_three_runs(specifier: str, refine: str) -> None:
    network = small(specifier=specifier, refine=refine)
    state = network.begin(Frame(0, torch.rand(1, 3, 32, 48)), masks(2))
    logits, _ = network.step(Frame(1, torch.rand(1, 3, 32, 48)), state)
    assert logits.shape == (1, 3, 32, 48)


@torch.no_grad()
def test_only_the_specifier_distinguishes_objects() -> None:
    frame = Frame(1, torch.rand(1, 3, 32, 48))
    for specifier, apart in (("none", False), ("mask", True), ("clue", True)):
        network = small(specifier=specifier)
        logits, _ = network.step(frame, network.begin(frame, masks(2, columns=16)))
        assert bool((logits[:, 1] - logits[:, 2]).abs().max() > 1e-4) == apart, specifier


@pytest.mark.parametrize(("specifier", "channels"), [("none", 256), ("mask", 258), ("clue", 261)])
def test_the_first_blend_has_the_published_channels(specifier: str, channels: int) -> None:
    assert CRVOS(specifier=specifier).refine.rm1.blend.in_channels == channels  # type: ignore[arg-type]


def test_refinement_has_the_published_size() -> None:
    assert sum(p.numel() for p in CRVOS().refine.parameters()) == 1_234_682


def test_the_clue_of_a_single_cell_has_finite_coordinates() -> None:
    clue = small().clue(torch.ones(1, 1, 16, 16))
    assert torch.isfinite(clue).all()


@torch.no_grad()
def test_chunks_change_nothing() -> None:
    network = small()
    frame = Frame(1, torch.rand(1, 3, 32, 48))
    state = network.begin(frame, masks(5))
    whole, _ = network.step(frame, state.clone())
    network.object_chunk = 2
    chunked, _ = network.step(frame, state)
    assert torch.allclose(whole, chunked, atol=1e-4)


def test_foreign_weights_are_not_converted() -> None:
    assert convert({"conv1.weight": torch.zeros(1)}) is None


def test_unknown_switches_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown specifier 'clues'"):
        CRVOS(specifier="clues")  # type: ignore[arg-type]
