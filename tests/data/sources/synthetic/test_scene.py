from __future__ import annotations

import numpy as np
import pytest

from voslab.core import generator
from voslab.data.sources.synthetic.scene import draw, make_scene
from voslab.data.sources.synthetic.textures import PATTERNS, noise, texture
from voslab.data.sources.synthetic.trajectories import excursion, random_walk, wave


def test_equal_keys_give_equal_frames() -> None:
    a, b = (make_scene((3, "x"), 6, (48, 80), (2, 2)) for _ in range(2))
    draw(a, 1, (48, 80))
    for frame in (5, 0):
        for one, two in zip(draw(a, frame, (48, 80)), draw(b, frame, (48, 80)), strict=True):
            np.testing.assert_array_equal(one, two)
    other = make_scene((4, "x"), 6, (48, 80), (2, 2))
    assert (draw(other, 0, (48, 80))[0] != draw(a, 0, (48, 80))[0]).any()


def test_a_scene_is_the_same_at_another_size() -> None:
    small, large = (1.0 * (draw(make_scene((1,), 4, s, (1, 2)), 3, s)[1] > 0) for s in ((48, 80), (96, 160)))
    assert abs(small.mean() - large.mean()) < 0.02
    assert (large[::2, ::2] != small).mean() < 0.05


@pytest.mark.parametrize("seed", range(8))
def test_objects_are_numbered_distractors_are_not(seed: int) -> None:
    scene = make_scene((seed,), 12, (48, 80), (2, 3))
    numbers = sorted(obj.label for obj in scene.layers)
    objects = [number for number in numbers if number]
    assert objects in ([1, 2], [1, 2, 3])
    assert len(numbers) - len(objects) <= 2
    image, labels = draw(scene, 0, (48, 80))
    assert (image.dtype, labels.dtype) == (np.uint8, np.int32)
    assert np.unique(labels).tolist() == [0, *objects]


def test_front_layers_cover_back_layers() -> None:
    covered = 0
    for seed in range(10):
        scene = make_scene((seed,), 24, (48, 80), (3, 3))
        for frame in range(0, 24, 4):
            ids = {obj.label for obj in scene.layers if obj.label}
            covered += len(ids - set(np.unique(draw(scene, frame, (48, 80))[1]).tolist()))
    assert covered > 3


def test_walks_are_smooth_and_stay_near_their_box() -> None:
    low, high = np.array([0.1, 0.1]), np.array([1.5, 0.9])
    for seed in range(20):
        path = random_walk(generator(seed), 60, np.array([0.5, 0.5]), 0.3, low, high)
        assert path.shape == (60, 2)
        np.testing.assert_allclose(path[0], 0.5)
        steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
        assert steps.max() < 0.09
        assert np.linalg.norm(np.diff(path, 2, axis=0), axis=1).max() < 0.04
        assert (path > low - 0.1).all()
        assert (path < high + 0.1).all()


@pytest.mark.parametrize("x", [0.3, 1.4])
def test_excursions_leave_over_the_nearer_side_and_return(x: float) -> None:
    path = excursion(generator(0), np.tile([x, 0.5], (24, 1)), aspect=1.7, margin=0.3)
    np.testing.assert_allclose(path[[0, 1]], [[x, 0.5]] * 2)
    away = path[:, 0] < -0.25 if x < 0.85 else path[:, 0] > 1.95
    assert away.any()
    assert abs(path[-1, 0] - x) < 0.15
    assert abs(wave(generator(0), 50)).max() <= 1


@pytest.mark.parametrize("kind", PATTERNS)
def test_textures_mix_their_two_colours(kind: str) -> None:
    one, two = np.array([200, 40, 40], np.float32), np.array([40, 40, 200], np.float32)
    colours = texture(generator(1), (48, 60), one, two, kind)
    assert colours.shape == (48, 60, 3)
    assert colours.dtype == np.float32
    assert colours[..., 0].std() > 15
    assert np.corrcoef(colours[..., 0].ravel(), colours[..., 2].ravel())[0, 1] < -0.5
    rough = noise(generator(2), (30, 50), 4, 3)
    assert (rough.min(), rough.max()) == (0, 1)
