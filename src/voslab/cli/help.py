"""Prints `--help`: the commented configuration file of a program, and the choices of its config groups.

Hydra's own help omits the comments and needs a third of a second to find the groups.
"""

from __future__ import annotations

from pathlib import Path

import yaml

FOOTER = "KEY=VALUE changes a value, GROUP=CHOICE selects a file; with --help they show the composed configuration."


def usage(configs: Path, name: str) -> str:
    """Format the help text of `configs/<name>.yaml`."""
    text = (configs / f"{name}.yaml").read_text()
    blocks = [block for block in text.strip().split("\n\n") if not block.startswith("hydra:")]
    head, _, _ = blocks[0].partition("defaults:\n")
    found = {group: choices for group in _groups(text) if (choices := _choices(configs / group))}
    width = max(map(len, found), default=0)
    groups = "\n".join(f"{group:<{width}}  {', '.join(choices)}" for group, choices in found.items())
    return "\n\n".join(part.strip("\n") for part in (head, *blocks[1:], "# Groups", groups, FOOTER) if part) + "\n"


def _groups(text: str) -> list[str]:
    named = [next(iter(one)) for one in yaml.safe_load(text)["defaults"] if isinstance(one, dict)]
    return [group for group in named if not group.startswith("override ")]


def _choices(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))
