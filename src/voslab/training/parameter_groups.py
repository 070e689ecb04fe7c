"""Splits the parameters of a network into the groups of its optimiser."""

from __future__ import annotations

from typing import Any

from torch import nn

ENCODER = "encoder."


def parameter_groups(network: nn.Module, split_encoder: bool, decay_all: bool) -> list[dict[str, Any]]:
    """Group the parameters that train, in the order of `named_parameters` within each group.

    Args:
        network: the segmenter.
        split_encoder: whether the parameters of the submodule `encoder` have groups of their own.
        decay_all: whether biases, scales and other vectors decay too; otherwise their groups have no weight decay.

    Returns:
        groups with `params`, in the order: rest, rest without decay, encoder, encoder without decay. Empty groups are
        left out. A group has `name` if there are several, and `weight_decay` if it has none.

    Example:
        >>> network = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
        >>> [(group["name"], len(group["params"])) for group in parameter_groups(network, True, False)]
        [('rest', 1), ('rest_vectors', 1), ('encoder', 1), ('encoder_vectors', 1)]
    """
    names = ("rest", "rest_vectors", "encoder", "encoder_vectors")
    groups: list[list[nn.Parameter]] = [[] for _ in names]
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            encoder, vector = split_encoder and name.startswith(ENCODER), not decay_all and parameter.ndim < 2
            groups[2 * encoder + vector].append(parameter)
    if not split_encoder and decay_all:
        return [{"params": groups[0]}]
    plain: list[dict[str, Any]] = [{"name": name, "params": group} for name, group in zip(names, groups, strict=True)]
    for group in plain[1::2]:
        group["weight_decay"] = 0.0
    return [group for group in plain if group["params"]]
