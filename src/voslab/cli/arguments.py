"""Reads the arguments of a command line: Hydra's flags, paths that need quotes, and names that the user meant."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.errors import MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from voslab.cli.renamed import RENAMED, RENAMED_KEYS
from voslab.core.errors import ConfigError
from voslab.core.parameters import nearest
from voslab.core.resources import resource

CONFIGS = resource("conf")
PATH_KEYS = (
    "video",
    "mask",
    "checkpoint",
    "weights",
    "base_weights",
    "predictions",
    "output",
    "resume",
    "archive",
    "preview",
    "runs",
)
# What Hydra reads as a number or a boolean. `null` stays null.
_NO_TEXT = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(e[-+]?\d+)?|true|false|nan|inf", re.IGNORECASE)
PATH_ARGUMENT = re.compile(
    rf"^(?:\+\+?)?(?:{'|'.join(PATH_KEYS)}|paths\.\w+|model\.\w+_weights|(?P<folder>hydra\.(run|sweep)\.dir))=(?P<value>.+)$",
    re.S,
)
"""An argument that names a file or folder."""


def parse_flags(arguments: list[str]) -> tuple[bool, list[str]]:
    """Parse Hydra's own flags: whether the command line is a sweep, and the flags that select another configuration.

    Raises:
        ConfigError: an unknown flag, an argument that is not `key=value`, or a renamed key.
    """
    found, others = get_args_parser().parse_known_args(arguments)
    for word in (*others, *found.overrides):
        if word.startswith("-") or ("=" not in word and not word.startswith("~")):
            meant = word.lstrip("-").partition("=")[0] if word.startswith("-") else "name"
            raise ConfigError(f"{word}: options are written {meant}=value (--help lists them)")
    for old in (word.lstrip("+~").partition("=")[0] for word in found.overrides):
        if old in RENAMED_KEYS:
            raise ConfigError(f"{old}: renamed; use {RENAMED_KEYS[old]}")
    named = {key: getattr(found, key.replace("-", "_")) for key in ("config-path", "config-name", "config-dir")}
    flags = [part for key, value in named.items() if value is not None for part in (f"--{key}", value)]
    return found.multirun or "hydra.mode=MULTIRUN" in arguments, flags


def quote_path(argument: str) -> str:
    r"""Quote a path for Hydra's override grammar, so that `clip (1), new.mp4` is a file and not a sweep.

    `${…}` in it is a part of the name. Only in `hydra.run.dir`, `hydra.sweep.dir` and values in quotes of their own it
    is an interpolation.

    >>> quote_path("video=my clips/a (1).mp4")
    "video='my clips/a (1).mp4'"
    >>> print(quote_path("video=${a}.mp4"))
    video='\${a}.mp4'
    >>> quote_path("seed=1,2")
    'seed=1,2'
    """
    found = PATH_ARGUMENT.match(argument)
    if not found:
        return argument
    value = found["value"]
    plain = re.fullmatch(r"[\w./:-]+", value, re.ASCII) and not _NO_TEXT.fullmatch(value)
    sweep = "," in value and not Path(value).exists() and all(Path(part).exists() for part in value.split(","))
    grammar = value[0] in "'\"[{" and not Path(value).exists()
    if plain or sweep or grammar or (found["folder"] and "${" in value):
        return argument
    value = escape_interpolations(value)
    # Hydra takes backslashes literally, except before a quote.
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"{argument[: found.start('value')]}'{escaped}'"


def escape_interpolations(text: str) -> str:
    r"""Escape `${`, so that OmegaConf returns the text as it is.

    >>> print(escape_interpolations("${a}.mp4"))
    \${a}.mp4
    """
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)


def explain(error: Exception) -> str:
    """Turn an error of Hydra into one line that suggests the name the user probably meant."""
    text = " ".join(str(error).split()).partition(" Config search path:")[0]
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if new_name := RENAMED.get(f"{group}/{choice}"):
            return f"{group}={choice}: renamed; use {group}={new_name}"
        meant, there = nearest(choice, error.options), ", ".join(error.options)
        return f"{group}={choice}: no such choice{meant} (there are {there})"
    found = re.search(r"Could not override '([\w./@]+)'", text)
    if found:
        key, cause = found[1], error.__cause__
        parent = cause.parent_node if isinstance(cause, OmegaConfBaseException) else None
        keys = [str(name) for name in parent] if isinstance(parent, DictConfig) else []
        groups = [path.name for path in CONFIGS.iterdir() if path.is_dir()] if "." not in key else []
        wrong = str(cause.key) if isinstance(cause, OmegaConfBaseException) else key
        return f"{key}: there is no '{wrong}' here{nearest(wrong, {*keys, *groups} - {wrong})}"
    if isinstance(error, ValueError) and "Config group override" in text:
        nothing = ", ".join(argument for argument in sys.argv[1:] if argument.endswith("=null"))
        return f"{nothing or text}: a group must name one of its choices"
    if isinstance(error, OSError):
        return f"{error.filename}: cannot be made the folder of this run ({error.strerror})"
    return text
