from __future__ import annotations

import numpy as np
import pytest

from voslab.core import ConfigError, generator
from voslab.data.clips.random_motion import RandomMotion, thin_plate

STILL = RandomMotion(shift=0, rotate=0, scale=0, shear=0)


def apply(place: np.ndarray, x: float, y: float) -> np.ndarray:
    out = place @ [x, y, 1]
    return np.asarray(out[:2] / out[2])


def test_a_walk_begins_where_it_is_and_stays_within_its_steps() -> None:
    maps = RandomMotion(shift=0.1, rotate=0, scale=0, shear=0).maps(generator(0), 50, (100, 200))
    np.testing.assert_allclose(maps[0], np.eye(3), atol=1e-12)
    steps = np.diff(maps[:, :2, 2], axis=0)
    assert (np.abs(steps) <= [20, 10]).all()
    assert (np.abs(steps).max(0) > [10, 5]).all()


def test_motion_without_steps_is_the_identity() -> None:
    np.testing.assert_allclose(STILL.maps(generator(0), 5, (48, 64)), [np.eye(3)] * 5, atol=1e-12)


def test_turning_and_growing_keep_the_centre() -> None:
    maps = RandomMotion(shift=0, rotate=20, scale=0.2, shear=5).maps(generator(1), 6, (48, 64))
    for place in maps:
        np.testing.assert_allclose(apply(place, 32, 24), [32, 24], atol=1e-9)
    assert np.linalg.det(maps[-1][:2, :2]) != pytest.approx(1, abs=1e-3)


def test_corners_stray_on_their_own() -> None:
    maps = RandomMotion(shift=0, rotate=0, scale=0, shear=0, corners=0.05).maps(generator(0), 9, (100, 100))
    np.testing.assert_allclose(maps[0], np.eye(3), atol=1e-5)
    strays = np.array([[apply(m, x, y) - (x, y) for x, y in ((0, 0), (100, 0), (100, 100))] for m in maps])
    assert np.abs(np.diff(strays, axis=0)).max() <= 5.01
    assert np.abs(strays).max() <= 15.01
    assert np.abs(strays[-1] - strays[-1, 0]).max() > 0.5


def test_a_thin_plate_goes_through_its_points_and_is_affine_where_they_are() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0.05, 0.95, (12, 2))
    offsets = rng.normal(0, 0.02, (12, 2))
    size = (241, 321)
    field = thin_plate(points, offsets, size)
    at = np.rint(points * (320, 240)).astype(int)
    np.testing.assert_allclose(field[at[:, 1], at[:, 0]], offsets * size[::-1], atol=1)
    plane = thin_plate(points, points @ [[0.1, 0.02], [0.0, -0.1]] + 0.03, size)
    y, x = np.mgrid[:241, :321]
    expected = np.stack([(0.1 * x / 320 + 0.03) * 321, (0.02 * x / 320 - 0.1 * y / 240 + 0.03) * 241], 2)
    np.testing.assert_allclose(plane, expected, atol=0.02)


def test_frames_are_bent_by_chance() -> None:
    rng = generator(0)
    fields = [RandomMotion(warp=0.3).field(rng, (32, 48)) for _ in range(200)]
    assert 30 < sum(field is not None for field in fields) < 90


@pytest.mark.parametrize("wrong", [{"shift": -1}, {"scale": 1}, {"shear": 45}, {"corners": 0.2}, {"warp": 1.1}])
def test_walks_that_lead_nowhere_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="may be negative"):
        RandomMotion(**wrong)
