"""Tests that the tables of the methods' READMEs state the settings of the published recipes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

import voslab
from voslab.cli.entry import CONFIGS, plain

METHODS = Path(voslab.__file__).parent / "methods"
HEADING = re.compile(r"^## `experiment=(\w+)`$", re.MULTILINE)
RECIPES = sorted(name for readme in METHODS.glob("*/README.md") for name in HEADING.findall(readme.read_text()))
TOPICS = {"data", "clip", "objects", "frame size", "augmentation", "optimiser", "batch", "loss", "length", "validation"}
SETTING = re.compile(r"`((?:\w+\.)+\w+)=([^`]+)`")
"""A key and a value in YAML, as in overrides."""


def table(recipe: str) -> list[tuple[str, str, str]]:
    """Topic, statement of the paper, and settings of the recipe; one row per line below the recipe's heading."""
    text = (METHODS / recipe.split("_")[0] / "README.md").read_text()
    section = text.split(f"## `experiment={recipe}`\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")][2:]
    return [(topic.strip(), says.strip(), does.strip()) for topic, says, does in rows]


def settings(recipe: str) -> dict[str, Any]:
    """Settings that the table states, by key."""
    found = [pair for _, _, does in table(recipe) for pair in SETTING.findall(does)]
    assert len(dict(found)) == len(found), "a key stands twice"
    return {key: yaml.safe_load(value) for key, value in found}


def configured(config: DictConfig, key: str) -> Any:
    """The value of a key, or the default of the parameter of that name; the keys of a mapping without `_target_`."""
    where, _, name = key.rpartition(".")
    node = plain(OmegaConf.select(config, where, throw_on_resolution_failure=True))
    if name not in node:
        default = inspect.signature(get_object(node["_target_"])).parameters[name].default
        return list(default) if isinstance(default, tuple) else default
    value = node[name]
    return {one: value[one] for one in value if not one.startswith("_")} if isinstance(value, dict) else value


def leaves(node: Any, where: str) -> Iterator[str]:
    """Keys of all values of an experiment's file that are no mappings."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{where}{name}.")
        elif name != "_partial_":
            yield f"{where}{name}"


def test_every_main_training_has_a_table() -> None:
    published = {path.stem for path in (CONFIGS / "experiment").glob("*_davis.yaml")}
    # CoVOS is compared with its paper as a whole; key adaptation trains nothing.
    assert published - {"covos_davis", "adaptation_davis"} <= set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_setting_of_the_table_is_that_of_the_recipe(recipe: str) -> None:
    config = voslab.compose("train", [f"experiment={recipe}"])
    stated = settings(recipe)
    assert {key: configured(config, key) for key in stated} == stated


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_table_is_complete(recipe: str) -> None:
    rows, stated = table(recipe), settings(recipe)
    assert {topic for topic, _, _ in rows} >= TOPICS
    assert [topic for topic, says, does in rows if not says or not does] == []
    content = yaml.safe_load((CONFIGS / "experiment" / f"{recipe}.yaml").read_text())
    groups = {name: content[name] for name in ("model", "data", "trainer") if name in content}
    own = [key for key in leaves(groups, "") if not key.endswith("curriculum._target_")]
    assert [key for key in own if not any(key == one or key.startswith(f"{one}.") for one in stated)] == []


def test_a_changed_setting_is_noticed() -> None:
    config = voslab.compose("train", ["experiment=gam_davis", "model.training.optimizer.lr=2e-5"])
    stated = settings("gam_davis")
    wrong = [key for key in stated if configured(config, key) != stated[key]]
    assert wrong == ["model.training.optimizer.lr"]
