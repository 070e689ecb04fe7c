"""Decides how a training uses a GPU: fused optimisers and compiled steps."""

from __future__ import annotations

import inspect
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from voslab.core import Segmenter
from voslab.training.checkpointing import Step, recompute
from voslab.training.recipe import Recipe


def optimizer_options(recipe: Recipe, device: torch.device, trainer: L.Trainer | None) -> dict[str, Any]:
    """Return `{"fused": True}` where the optimiser of a recipe runs fused, else nothing.

    Lightning clips no gradients of a fused optimiser in mixed precision.

    Args:
        recipe: training settings; an optimiser with its own `fused`, `foreach` or `differentiable` is left as it is.
        device: device of the parameters.
        trainer: the trainer; None outside of a training.
    """
    if not recipe.fused or device.type != "cuda":
        return {}
    chosen = getattr(recipe.optimizer, "keywords", {})
    offered = inspect.signature(recipe.optimizer).parameters
    if "fused" not in offered or any(key in chosen for key in ("fused", "foreach", "differentiable")):
        return {}
    clips = trainer is not None and trainer.gradient_clip_val and isinstance(trainer.precision_plugin, MixedPrecision)
    return {} if clips else {"fused": True}


def training_step(segmenter: Segmenter[Any], recipe: Recipe) -> Step:
    """Return the segmenter's `step`, compiled and with activation checkpointing as the recipe says.

    Args:
        segmenter: the network.
        recipe: training settings.
    """
    step: Step = recompute(segmenter) if recipe.checkpoint else segmenter.step
    return torch.compile(step) if recipe.compile else step
