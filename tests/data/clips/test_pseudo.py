from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

from voslab.core import ConfigError, DataError, generator
from voslab.data import Augmentation, ClipDataset, ClipSettings, build_transform
from voslab.data.clips.pseudo import PseudoClips, StillClips
from voslab.data.clips.random_motion import RandomMotion
from voslab.data.sources.stills import VOID_STILL, Still

SIZE = (96, 128)
SETTINGS = ClipSettings(Augmentation(SIZE, flip=0), frames=4, max_objects=4, min_area=30)
LIVELY = RandomMotion(shift=0.06, rotate=10, scale=0.1, shear=5, corners=0.03, warp=0.5)
REST = RandomMotion(shift=0, rotate=0, scale=0, shear=0)


@dataclass(frozen=True)
class Painted:
    """Stills whose grey tells their labels: background 40, object k 40 + 60 k."""

    count: int = 3
    objects: int = 2
    void: bool = False

    def __len__(self) -> int:
        return self.count

    def load(self, place: int) -> Still:
        labels = np.zeros((150, 200), np.int32)
        for k in range(self.objects):
            labels[30 + 10 * place : 100, 20 + 90 * k : 80 + 90 * k] = k + 1
        image = np.repeat((40 + 60 * labels).astype(np.uint8)[..., None], 3, 2)
        if self.void:
            labels[110:130] = VOID_STILL
        return Still(image, labels, f"still{place}")


def source(stills: Painted | None = None, **how: object) -> StillClips:
    repeated = PseudoClips(stills or Painted, size=SIZE, **{"light": 0.0, **how})  # type: ignore[arg-type]
    return replace(repeated, stills=lambda: stills or Painted()).clips(SETTINGS)


def core(mask: np.ndarray) -> np.ndarray:
    """Without a rim of three pixels, where colours are mixed."""
    edge = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}
    return cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8), **edge).astype(bool)


@pytest.mark.parametrize("seed", range(6))
def test_masks_move_with_their_pixels(seed: int) -> None:
    clip = source(motion=LIVELY, paste_motion=LIVELY, paste=(2, 2)).draw(seed % 3, 0, generator(seed))
    assert len(clip.images) == len(clip.labels) == 4
    colours = {0: 40, 1: 100, 2: 160}
    seen = 0
    for image, labels in zip(clip.images, clip.labels, strict=True):
        assert image.shape == (*SIZE, 3)
        assert labels.shape == SIZE
        for identity in np.unique(labels):
            inside = image[core(labels == identity)][:, 0]
            if identity in (1, 2):
                assert (np.abs(inside.astype(int) - colours[int(identity)]) <= 2).all()
                seen += inside.size
            elif identity > 2:
                # Pasted: cut from an object of either colour, all of one.
                assert inside.size == 0 or (inside.max() - inside.min() <= 2 and inside.min() >= 98)
                seen += inside.size
    assert seen > 1000


def test_ids_are_the_same_in_all_frames_and_pasted_ones_new() -> None:
    clip = source(paste=(3, 3)).draw(1, 0, generator(5))
    assert {int(i) for labels in clip.labels for i in np.unique(labels)} <= {0, 1, 2, 3, 4, 5}
    assert clip.labels[0].max() > 2
    assert clip.name.count("+") == 3


def test_front_objects_occlude_objects_behind_them() -> None:
    plain = source(paste=(0, 0), motion=REST).draw(0, 0, generator(3)).labels[0]
    hidden = 0
    for seed in range(8):
        pasted = source(paste=(2, 2), motion=REST, zoom=(1.0, 1.0)).draw(0, 0, generator(seed)).labels[0]
        own = source(paste=(0, 0), motion=REST, zoom=(1.0, 1.0)).draw(0, 0, generator(seed)).labels[0]
        front = pasted > 2
        np.testing.assert_array_equal(pasted[~front], own[~front])
        hidden += int((front & (own > 0)).sum())
    assert hidden > 100
    assert plain.max() == 2


def test_pasted_objects_move_on_their_own() -> None:
    still = source(motion=REST, paste=(1, 1), paste_motion=RandomMotion(shift=0.1, rotate=0, scale=0, shear=0))
    moved = 0
    for seed in range(4):
        clip = still.draw(0, 0, generator(seed))
        where = [np.argwhere(labels == 3).mean(0) for labels in clip.labels if (labels == 3).any()]
        own = [labels[labels != 3] for labels in clip.labels]
        moved += int(np.abs(np.diff(where, axis=0)).max() > 2)
        assert all((np.unique(labels) <= 2).all() for labels in own)
    assert moved == 4


def test_pasted_objects_have_the_requested_area_and_cover_what_they_label() -> None:
    areas = []
    for seed in range(8):
        clip = source(Painted(objects=1), paste=(1, 1), motion=REST, paste_motion=REST, paste_size=(0.05, 0.05)).draw(
            0, 0, generator(seed)
        )
        pasted = clip.labels[0] == 2
        areas.append(int(pasted.sum()))
        # The object's grey is 100 on a background of 40.
        assert clip.images[0][pasted].min() >= 68
    assert 0.9 < max(areas) / (0.05 * SIZE[0] * SIZE[1]) < 1.1


def test_the_still_fills_the_first_frame() -> None:
    for seed in range(5):
        clip = source(paste=(0, 0), motion=LIVELY if seed else REST).draw(seed % 3, 0, generator(seed))
        if not seed:
            assert set(np.unique(clip.images[0])) <= set(range(38, 163))
        assert (clip.labels[0] > 0).any()


def test_groups_stay_void() -> None:
    clip = source(Painted(void=True), motion=REST, paste=(0, 0), zoom=(1.0, 1.0)).draw(0, 0, generator(0))
    assert clip.void == VOID_STILL
    assert (clip.labels[0] == VOID_STILL).any()


def test_light_changes_pixels_and_no_label() -> None:
    dark, plain = (source(light=light, paste=(0, 0), motion=REST).draw(0, 0, generator(0)) for light in (0.3, 0.0))
    np.testing.assert_array_equal(dark.labels, plain.labels)
    means = [float(image.mean()) for image in dark.images]
    assert np.ptp(means) > 3
    assert np.ptp([float(image.mean()) for image in plain.images]) < 1e-9


def test_the_generator_alone_decides() -> None:
    repeated = source(motion=LIVELY)
    repeated.draw(2, 0, generator(9))
    one, two = repeated.draw(1, 0, generator(4)), source(motion=LIVELY).draw(1, 0, generator(4))
    np.testing.assert_array_equal(one.images, two.images)
    np.testing.assert_array_equal(one.labels, two.labels)


def test_clips_come_out_relabelled_by_their_first_frame() -> None:
    data = ClipDataset((source(paste=(1, 2)),), build_transform(SETTINGS.augmentation))
    for epoch in range(4):
        item = data[epoch, 1]
        first = set(np.unique(item.labels[0])) - {0}
        assert first == set(range(1, len(first) + 1))
        assert set(np.unique(item.labels)) - {0} <= first
        assert int(item.slot_mask.sum()) == len(first)


def test_a_still_without_objects_is_refused() -> None:
    with pytest.raises(DataError, match="still still0: no object"):
        ClipDataset((source(Painted(objects=0), paste=(0, 0)),), build_transform(SETTINGS.augmentation))[0, 0]


@pytest.mark.parametrize(
    "wrong", [{"size": (8, 96)}, {"zoom": (2, 1)}, {"paste": (2, 1)}, {"paste_size": (0, 1)}, {"light": 1}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PseudoClips(Painted, **wrong)  # type: ignore[arg-type]
