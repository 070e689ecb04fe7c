from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voslab.core import ConfigError, DataError
from voslab.data.sources.ovis import ovis
from voslab.data.sources.synthetic.lookalikes import By, lookalikes, make_lookalikes
from voslab.data.sources.synthetic.scene import draw

SIZE = (64, 112)


@pytest.mark.parametrize("by", ["hue", "stripes"])
def test_the_amount_is_all_that_differs(by: By) -> None:
    same, near, far = (make_lookalikes((3,), 4, SIZE, amount, by) for amount in (0.0, 0.2, 1.0))
    first, second = same.layers
    assert np.array_equal(first.texture, second.texture)
    for scene in (near, far):
        assert np.array_equal(scene.layers[0].texture, first.texture)
        assert np.array_equal(scene.layers[1].centre, second.centre)
        assert np.array_equal(scene.background, same.background)
    apart = [float(np.abs(scene.layers[1].texture - first.texture).mean()) for scene in (same, near, far)]
    assert apart[0] == 0 < apart[1]
    assert apart[2] > 10


def test_both_show_all_the_time_and_apart() -> None:
    scene = make_lookalikes((0,), 12, SIZE, 0.0)
    for frame in (0, 6, 11):
        _, labels = draw(scene, frame, SIZE)
        left, right = (np.flatnonzero((labels == label).any(0)) for label in (1, 2))
        assert left.max() < right.min()
        assert min((labels == label).sum() for label in (1, 2)) > 200


def test_scenes_depend_on_their_key() -> None:
    a, b, c = (draw(make_lookalikes((key,), 3, SIZE, 0.5), 2, SIZE)[0] for key in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize(("amount", "by"), [(-0.1, "hue"), (1.1, "hue"), (0.5, "size")])
def test_other_differences_are_refused(amount: float, by: Any) -> None:
    with pytest.raises(ConfigError, match="must be in"):
        make_lookalikes((0,), 3, SIZE, amount, by)


def test_every_object_of_a_data_set_is_a_sequence_of_its_own(tmp_path: Path) -> None:
    build_once = lookalikes(tmp_path / "a", 0.1, videos=2, frames=3, size=SIZE)
    assert [sequence.name for sequence in build_once] == ["alike_001_1", "alike_001_2", "alike_002_3", "alike_002_4"]
    image, labels = draw(make_lookalikes((0, "alike", 2), 3, SIZE, 0.1), 1, SIZE)
    for label, sequence in zip((1, 2), build_once[2:], strict=True):
        assert np.array_equal(sequence.labels(1), labels == label)
        assert np.abs(sequence.image(1).astype(int) - image).mean() < 4
    assert ovis(tmp_path / "a", single=False)[0].starts == {1: 0, 2: 0}


def test_a_data_set_is_generated_once_with_the_given_parameters(tmp_path: Path) -> None:
    first = lookalikes(tmp_path / "a", 0.1, videos=1, frames=2, size=SIZE)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert lookalikes(tmp_path / "a", 0.1, videos=1, frames=2, size=SIZE) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps
    with pytest.raises(DataError, match=r"generated with other parameters \(amount 0\.1 not 0\.2\)"):
        lookalikes(tmp_path / "a", 0.2, videos=1, frames=2, size=SIZE)


@pytest.mark.parametrize("wrong", [{"videos": 0}, {"frames": 0}, {"size": (80, 64)}, {"amount": 2.0}])
def test_a_data_set_of_nonsense_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        lookalikes(**({"root": tmp_path / "a", "amount": 0.1, "videos": 1, "frames": 2, "size": SIZE} | wrong))
    assert list(tmp_path.iterdir()) == []


def test_both_objects_are_one_sequence_if_asked(tmp_path: Path) -> None:
    options: dict[str, Any] = {"amount": 0.1, "videos": 2, "frames": 2, "size": SIZE}
    single, both = (lookalikes(tmp_path, **options, single=single) for single in (True, False))
    assert (len(single), len(both)) == (4, 2)
    joined = both[0].labels(1)
    assert joined is not None
    for number, sequence in enumerate(single[:2], 1):
        labels = sequence.labels(1)
        assert labels is not None
        assert np.array_equal(labels == 1, joined == number)
