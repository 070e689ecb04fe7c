"""Every recipe computes the same gradient in 1, 2 and 4 processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.recipe_gradients import WORLDS, recipes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
INDIVISIBLE = {("mivos_coco", 4)}
"""Recipes whose published batch the number of processes does not divide."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gradients")
    command = [sys.executable, "-m", "tests.training.recipe_gradients", str(made)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return made


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize("name", recipes())
def test_the_gradient_does_not_depend_on_the_number_of_processes(name: str, world: int, folder: Path) -> None:
    alone, shared = (torch.load(folder / f"{name}-{count}.pt", weights_only=True) for count in (1, world))
    if (name, world) in INDIVISIBLE:
        assert f"is not divisible by {world}: use 2 processes" in shared
        return
    assert alone.keys() == shared.keys()
    assert max(float(gradient.abs().max()) for gradient in alone.values()) > 1e-3
    for parameter, gradient in alone.items():
        assert gradient.dtype == torch.float64
        assert torch.allclose(gradient, shared[parameter], rtol=0, atol=1e-10), parameter
