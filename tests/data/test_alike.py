from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from src.core import ConfigError
from src.data.alike import By, make_alike
from src.data.world import draw

SIZE = (64, 112)


@pytest.mark.parametrize("by", ["hue", "stripes"])
def test_the_amount_is_all_that_differs(by: By) -> None:
    same, near, far = (make_alike((3,), 4, SIZE, amount, by) for amount in (0.0, 0.2, 1.0))
    first, second = same.things
    assert np.array_equal(first.texture, second.texture)
    for world in (near, far):
        assert np.array_equal(world.things[0].texture, first.texture)
        assert np.array_equal(world.things[1].centre, second.centre)
        assert np.array_equal(world.ground, same.ground)
    apart = [float(np.abs(world.things[1].texture - first.texture).mean()) for world in (same, near, far)]
    assert apart[0] == 0 < apart[1]
    assert apart[2] > 10


def test_both_show_all_the_time_and_apart() -> None:
    world = make_alike((0,), 12, SIZE, 0.0)
    for frame in (0, 6, 11):
        _, labels = draw(world, frame, SIZE)
        left, right = (np.flatnonzero((labels == label).any(0)) for label in (1, 2))
        assert left.max() < right.min()
        assert min((labels == label).sum() for label in (1, 2)) > 200


def test_a_key_gives_one_world_and_another_another() -> None:
    a, b, c = (draw(make_alike((key,), 3, SIZE, 0.5), 2, SIZE)[0] for key in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize(("amount", "by"), [(-0.1, "hue"), (1.1, "hue"), (0.5, "size")])
def test_other_differences_are_refused(amount: float, by: Any) -> None:
    with pytest.raises(ConfigError, match="must be in"):
        make_alike((0,), 3, SIZE, amount, by)
