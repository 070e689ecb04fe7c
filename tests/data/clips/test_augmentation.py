from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from voslab.core import VOID, ConfigError
from voslab.data import Augmentation, build_transform
from voslab.data.clips.augmentation import MEAN

SIZE = (40, 64)


def clip(frames: int = 4, ids: tuple[int, ...] = (1, 30, 200, 254)) -> tuple[Any, Any]:
    """Equal frames, whose colour tells the label, so that frames and masks can be compared after any warp."""
    labels = np.zeros(SIZE, np.uint8)
    for place, identity in enumerate(ids):
        labels[8:30, 4 + 14 * place : 14 + 14 * place] = identity
    image = np.where((labels > 0)[..., None], 250, 5).astype(np.uint8).repeat(3, axis=2)
    return [image] * frames, [labels] * frames


def same_in_all_frames(array: NDArray[Any]) -> bool:
    return bool((array == array[:1]).all())


STRONG = {"flip": 0.5, "rotate": 30.0, "shear": 30.0, "scale": (0.75, 1.25)}


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_switched_off_is_byte_exact(fit: Any) -> None:
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (3, *SIZE, 3), dtype=np.uint8))
    labels = list(rng.integers(0, 256, (3, *SIZE), dtype=np.uint8))
    out_images, out_labels = build_transform(Augmentation(SIZE, fit=fit, flip=0))(images, labels, 5)
    np.testing.assert_array_equal(out_images, images)
    np.testing.assert_array_equal(out_labels, labels)


@pytest.mark.parametrize("name", ["blur", "dark", "jpeg"])
def test_degraded_frames_keep_their_labels_and_are_degraded_as_often_as_asked(name: str) -> None:
    images, labels = clip()
    transform = build_transform(Augmentation(SIZE, flip=0, **{name: 0.5}))
    results = [transform(images, labels, seed) for seed in range(100)]
    assert all((out_labels == labels).all() for _, out_labels in results)
    assert all(same_in_all_frames(out_images) for out_images, _ in results)
    assert 35 <= sum(not np.array_equal(out_images, images) for out_images, _ in results) <= 65
    np.testing.assert_array_equal(results[7][0], transform(images, labels, 7)[0])


@pytest.mark.parametrize("fit", ["resize", "crop"])
@given(seed=st.integers(0, 2**40))
@settings(max_examples=25, deadline=None)
def test_ids_are_preserved_and_frames_are_transformed_equally(fit: Any, seed: int) -> None:
    images, labels = clip()
    out_images, out_labels = build_transform(Augmentation((32, 48), fit=fit, **STRONG, jitter=0.2))(
        images, labels, seed
    )
    assert (out_images.shape, out_labels.shape) == ((4, 32, 48, 3), (4, 32, 48))
    assert (out_images.dtype, out_labels.dtype) == (np.uint8, np.uint8)
    assert set(np.unique(out_labels)) <= set(np.unique(labels[0]))
    assert out_labels.any()
    assert same_in_all_frames(out_images)
    assert same_in_all_frames(out_labels)


@pytest.mark.parametrize("seed", range(6))
def test_masks_move_with_their_images(seed: int) -> None:
    images, labels = clip()
    out_images, out_labels = build_transform(Augmentation(SIZE, fit="crop", **STRONG))(images, labels, seed)
    uncovered = (abs(out_images.astype(int) - MEAN) < 3).all(-1)
    bright = out_images[..., 0] > 180
    assert ((out_labels > 0) == bright)[~uncovered].mean() > 0.9


def test_border_has_the_mean_colour_in_every_frame() -> None:
    images, labels = clip()
    out, _ = build_transform(Augmentation(SIZE, flip=0, scale=(0.5, 0.5)))(images, labels, 0)
    np.testing.assert_array_equal(out[:, :4, :4], np.broadcast_to(MEAN, (4, 4, 4, 3)))
    padded, padded_labels = build_transform(Augmentation((60, 80), fit="crop", flip=0))(images, labels, 0)
    np.testing.assert_array_equal(padded[:, 0, 0], np.broadcast_to(MEAN, (4, 3)))
    np.testing.assert_array_equal(padded_labels[:, 10:50, 8:72], labels)
    assert not padded_labels[:, :10].any()


def test_results_depend_on_the_seed_only() -> None:
    images, labels = clip()
    augmentation = Augmentation((32, 32), fit="crop", **STRONG, jitter=0.3)
    used, fresh = build_transform(augmentation), pickle.loads(pickle.dumps(build_transform(augmentation)))
    used(images, labels, 1)
    used(images[:1], labels[:1], 2)
    for seed in range(4):
        for a, b in zip(used(images, labels, seed), fresh(images, labels, seed), strict=True):
            np.testing.assert_array_equal(a, b)
    distinct = {used(images, labels, seed)[1].tobytes() for seed in range(8)}
    assert len(distinct) == 8


def test_flips_do_not_decide_angles() -> None:
    # albumentations seeds all transforms of a composition equally, so that flips and angles would be correlated.
    labels = np.zeros((65, 65), np.uint8)
    labels[4:32, 32] = 1
    labels[32, 32:44] = 2
    transform = build_transform(Augmentation((65, 65), flip=0.5, rotate=40))
    outcomes = set()
    for seed in range(40):
        (out,) = transform([np.zeros((65, 65, 3), np.uint8)], [labels], seed)[1]
        flipped = np.argwhere(out == 2)[:, 1].mean() < 32
        outcomes.add((bool(flipped), bool(np.argwhere(out == 1)[:, 1].mean() < 32)))
    assert len(outcomes) == 4


def test_flip_probability_and_crops_that_move() -> None:
    images, labels = clip(1)
    flip = build_transform(Augmentation(SIZE, flip=0.5))
    mirrored = labels[0][:, ::-1]
    flips = sum(bool((flip(images, labels, seed)[1][0] == mirrored).all()) for seed in range(200))
    assert 70 < flips < 130
    crop = build_transform(Augmentation((16, 16), fit="crop", flip=0))
    assert len({crop(images, labels, seed)[0].tobytes() for seed in range(30)}) > 15


def test_crops_look_for_the_first_frames_objects_not_for_void() -> None:
    first, later = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    first[2:6, 2:6] = 1
    first[60:, 60:] = VOID
    later[90:, 90:] = 1
    transform = build_transform(Augmentation((24, 24), fit="crop", flip=0))
    for seed in range(20):
        _, out = transform([np.zeros((100, 100, 3), np.uint8)] * 2, [first, later], seed)
        assert (out[0] == 1).any()
        assert not out[1].any()


@pytest.mark.parametrize("short", [20, 80])
def test_the_shorter_side_is_set_first(short: int) -> None:
    images, labels = clip()
    size = (short, short * 64 // 40)
    out_images, out_labels = build_transform(Augmentation(size, short=short, fit="crop", flip=0))(images, labels, 0)
    assert out_images.shape == (4, *size, 3)
    assert set(np.unique(out_labels)) == set(np.unique(labels[0]))
    assert (out_labels > 0).mean() == pytest.approx((labels[0] > 0).mean(), abs=0.02)
    assert not (abs(out_images.astype(int) - MEAN) < 3).all(-1).any()


def test_each_clip_gets_one_of_several_sides() -> None:
    images, labels = clip()
    transform = build_transform(Augmentation((80, 128), short=(20, 40, 80), fit="crop", flip=0))
    shares = [(transform(images, labels, seed)[1] > 0).mean((1, 2)) for seed in range(12)]
    assert all(np.ptp(share) < 0.02 for share in shares), "all frames of a clip have the same size"
    whole = (labels[0] > 0).mean()
    found = {round(4 * float(np.sqrt(share[0] / whole))) for share in shares}
    assert found == {1, 2, 4}, "quarters of the size of the crop"


def test_jitter_changes_colours_only() -> None:
    images, labels = clip()
    images = [np.full_like(images[0], (200, 80, 40))] * 4
    out, out_labels = build_transform(Augmentation(SIZE, flip=0, jitter=0.4))(images, labels, 3)
    assert same_in_all_frames(out)
    assert (out != images[0]).any()
    np.testing.assert_array_equal(out_labels, labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 4)}, "size"),
        ({"short": 0}, "short=0"),
        ({"short": (240, 0)}, "short=.240, 0"),
        ({"fit": "squeeze"}, "fit=squeeze"),
        ({"flip": 1.5}, "flip=1.5"),
        ({"rotate": -3}, "rotate=-3"),
        ({"shear": 90}, "shear=90"),
        ({"scale": (1.2, 0.8)}, "scale"),
        ({"jitter": 2}, "jitter=2"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"augmentation: {message}"):
        Augmentation(**({"size": SIZE} | options))
