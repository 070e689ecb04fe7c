"""Describes overrides of the command line in short form, for the names of runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

LIMIT = 60
"""Maximum length of a description."""
_SILENT = re.compile(
    r"(experiment|sweep|stages|name|run_name|tags|record|resume|output|objective|test|weights|base_weights"
    r"|logger|trainer|callbacks|trainer\.(accelerator|devices|num_nodes|strategy|enable_progress_bar)"
    r"|data\.(num_workers|pin_memory)|(hydra|paths|logger|callbacks|model\.\w+_weights)([./].*)?)$"
)
"""Keys that do not change what is trained, or that the name of the recipe covers."""


def describe_overrides(overrides: Sequence[str]) -> str:
    """Return what overrides change: values of groups, and other values with the last part of their key.

    Args:
        overrides: Overrides of Hydra. Those of folders, loggers and hardware are left out.

    Returns:
        The description, safe in file names; empty if nothing is left.

    Example:
        >>> describe_overrides(["experiment=gam_davis", "model.network.history=1", "point=no_cam", "seed=3"])
        'history=1_no_cam_seed=3'
        >>> describe_overrides(["logger=wandb", "paths.data=/data", "data.clip.gap=[1,5]"])
        'gap=1-5'
    """
    parts = []
    for override in overrides:
        key, equals, value = override.lstrip("+~").partition("=")
        if _SILENT.match(key):
            continue
        name = key.partition("@")[0].rpartition(".")[2].rpartition("/")[2]
        text = _clean(PurePath(value).stem if "/" in value else value)
        is_choice = "." not in key and not re.match(r"[-+.\d]|(true|false|null|none)$", text, re.IGNORECASE)
        parts.append(text if is_choice and text else f"{name}={text}" if equals else f"no-{name}")
    described = "_".join(dict.fromkeys(parts))
    return described if len(described) <= LIMIT else described[:LIMIT].rpartition("_")[0] or described[:LIMIT]


def _clean(value: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", value).strip("-")
