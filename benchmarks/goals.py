"""What benchmarks share: rows of a ratio, its goal and a verdict, and the speed that the machine can do at most."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from voslab.cli.cpu_runtime import configure_cpu
from voslab.cli.entry import fail
from voslab.core import ConfigError, VOSError
from voslab.core.parameters import nearest

HELD_OUT = "bear,car-turn,dog-agility,motorbike,rollerblade"
"""Videos of DAVIS 2016 train that no network here trained on (`conf/data/coco_davis2016.yaml`)."""
ROW = "{:<40}{:>7}{:>9}  {}"


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio and what it should be.

    Attributes:
        name: what was measured.
        ratio: of two things measured in the same run; None where it does not apply here.
        limit: the goal.
        side: whether the goal is the least or the most.
        note: what the ratio is made of.
    """

    name: str
    ratio: float | None
    limit: float
    side: Literal["least", "most"]
    note: str = ""

    @property
    def verdict(self) -> str:
        """`met`, by how much it was missed, or `not applicable`."""
        if self.ratio is None:
            return "not applicable"
        met = self.ratio >= self.limit if self.side == "least" else self.ratio <= self.limit
        return "met" if met else f"missed by {abs(self.ratio / self.limit - 1):.0%}"

    def show(self) -> None:
        """Print the row."""
        sign = ">=" if self.side == "least" else "<="
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}"
        print(ROW.format(self.name, ratio, f"{sign} {self.limit:g}", f"{self.verdict}: {self.note}"), flush=True)


def start(main: Callable[[], None]) -> None:
    """Call the main function of a benchmark; bad input ends in one line and exit code 2."""
    try:
        main()
    except VOSError as error:
        fail(error)


def parsed(arguments: list[str], defaults: dict[str, str]) -> dict[str, str]:
    """`key=value` arguments over defaults; a value may be empty."""
    merged = dict(defaults)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key not in defaults:
            raise ConfigError(f"no option {key}{nearest(key, defaults)}; there are {', '.join(defaults)}")
        if not equals:
            raise ConfigError(f"{key}: no value; write {key}={defaults[key]}")
        merged[key] = value
    return merged


def options(defaults: dict[str, str]) -> dict[str, str]:
    """`key=value` of the command line over defaults; sets `threads`, where there is such a key, and the processor."""
    merged = parsed(sys.argv[1:], defaults)
    if merged.get("threads"):
        torch.set_num_threads(int(merged["threads"]))
    configure_cpu()
    return merged


def interleaved(runs: dict[str, Callable[[], Any]], rounds: int, warm: bool = True) -> dict[str, float]:
    """Least seconds of each of some functions, called in turn so that what disturbs one disturbs all.

    `warm` puts a round before those that count.
    """
    best = dict.fromkeys(runs, float("inf"))
    for round_ in range(-warm, rounds):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            if round_ >= 0:
                best[name] = min(best[name], time.perf_counter() - begun)
    return best


class Peak:
    """A 3x3 convolution of 256 channels at 120x216, channels last: as fast as this machine multiplies and adds."""

    macs = 256 * 256 * 9 * 120 * 216

    def __init__(self) -> None:
        self.convolution = nn.Conv2d(256, 256, 3, padding=1).requires_grad_(False)
        self.convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.x = torch.rand(1, 256, 120, 216).contiguous(memory_format=torch.channels_last)

    def __call__(self) -> None:
        """Run it once."""
        self.convolution(self.x)
