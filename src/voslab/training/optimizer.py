"""Builds the optimiser of a recipe, and checks its stored states against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch

from voslab.core import CheckpointError, ConfigError, Segmenter
from voslab.training.acceleration import optimizer_options
from voslab.training.parameter_groups import ENCODER, parameter_groups
from voslab.training.recipe import Recipe


def build_optimizer(
    segmenter: Segmenter[Any], recipe: Recipe, pretrained: bool, device: torch.device, trainer: L.Trainer | None
) -> torch.optim.Optimizer:
    """Build the optimiser of all parameters that train; the encoder has its own learning rate if weights were loaded.

    Args:
        segmenter: The network.
        recipe: Training settings.
        pretrained: Whether weights were loaded.
        device: Device of the parameters.
        trainer: The trainer; None outside of a training.

    Raises:
        ConfigError: If the optimiser does not take the recipe's arguments.
    """
    groups = parameter_groups(segmenter, pretrained and recipe.encoder_lr_scale != 1, recipe.decay_all)
    try:
        options = optimizer_options(recipe, device, trainer)
        optimizer = recipe.optimizer(groups[0]["params"] if len(groups) == 1 else groups, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.training.optimizer: {error}") from error
    for group in optimizer.param_groups:
        if group.get("name", "").startswith(ENCODER.rstrip(".")):
            group["lr"] *= recipe.encoder_lr_scale
    return optimizer


def check_states(optimizer: torch.optim.Optimizer, states: Sequence[dict[str, Any]]) -> None:
    """Check that stored states belong to an optimiser of the same parameter groups.

    Args:
        optimizer: Optimiser of this run.
        states: State dicts of a checkpoint's optimisers.

    Raises:
        CheckpointError: If the groups differ in their options, names or number of parameters.
    """
    now = [_shape(group) for group in optimizer.param_groups]
    if any([_shape(group) for group in state["param_groups"]] != now for state in states):
        raise CheckpointError("resume: the run was started with another optimizer, or with other frozen parts")


def _shape(group: dict[str, Any]) -> tuple[set[str], int, str]:
    # A scheduler adds its initial learning rate.
    return set(group) - {"initial_lr"}, len(group["params"]), group.get("name", "")
