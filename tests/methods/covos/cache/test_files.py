from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from voslab.core import VOID, ConfigError, DataError
from voslab.methods.covos.cache.crops import CachedBFrameCrops, CropSettings, Video, collate_cached
from voslab.methods.covos.cache.datamodule import CachedBFrameDataModule
from voslab.methods.covos.cache.files import (
    CachedBFrame,
    cached_frames,
    frame_path,
    mark_complete,
    read_cached,
    write_cached,
)

GRID = (10, 14)
CHANNELS = 6


def b_frame(objects: int = 2, seed: int = 0, compared: bool = True) -> CachedBFrame:
    """Features that name their cell, and object k in column 3 k, rows 2 to 5, of all masks alike."""
    rng = torch.Generator().manual_seed(seed)
    cells = torch.arange(GRID[0] * GRID[1]).view(1, *GRID).half()
    features = torch.cat([cells, torch.rand(CHANNELS - 1, *GRID, generator=rng).half()])
    probs = torch.zeros(objects, *GRID, dtype=torch.float16)
    for i in range(objects):
        probs[i, 2:6, 3 * i + 3] = 1
    slots = torch.arange(1, objects + 1).view(-1, 1, 1)
    labels = (probs * slots).sum(0).repeat_interleave(4, 0).repeat_interleave(4, 1).byte()
    return CachedBFrame(features, features + 1 if compared else None, probs, probs / 2, labels)


def written(folder: Path, frames: int = 3, **kind: int) -> Path:
    for index in range(frames):
        write_cached(frame_path(folder, index), b_frame(seed=index, **kind))
    mark_complete(folder, range(frames))
    return folder


@pytest.mark.parametrize("compared", [True, False])
def test_cached_frame_round_trip(compared: bool, tmp_path: Path) -> None:
    given = b_frame(compared=compared)
    write_cached(tmp_path / "0.safetensors", given)
    found = read_cached(tmp_path / "0.safetensors")
    for name, ours, theirs in zip(given._fields, found, given, strict=True):
        assert (ours is None) == (theirs is None), name
        assert ours is None or (ours.dtype == theirs.dtype and torch.equal(ours, theirs)), name


def test_crops_are_aligned_and_contain_an_object(tmp_path: Path) -> None:
    path, size = tmp_path / "0.safetensors", (16, 24)
    write_cached(path, whole := b_frame())
    places = set()
    for draw in range(50):
        crop = read_cached(path, size, np.random.default_rng(draw))
        top, left = divmod(int(crop.features[0, 0, 0]), GRID[1])
        places.add((top, left))
        rows, columns = slice(top, top + 4), slice(left, left + 6)
        for ours, theirs in zip(crop[:4], whole[:4], strict=True):
            assert torch.equal(ours, theirs[:, rows, columns])
        assert torch.equal(crop.labels, whole.labels[4 * top : 4 * top + 16, 4 * left : 4 * left + 24])
        assert crop.labels.any()
    assert len(places) > 15


def test_small_frames_are_padded_with_void(tmp_path: Path) -> None:
    crops = CachedBFrameCrops((Video(written(tmp_path), (0, 1, 2)),), CropSettings((48, 64), 2))
    item = crops[0, 0]
    assert item.b_frame.features.shape == (CHANNELS, 12, 16)
    assert (item.b_frame.labels[40:] == VOID).all()
    assert (item.b_frame.labels[:, 56:] == VOID).all()
    assert (item.b_frame.labels[:40, :56] != VOID).all()


def test_cut_splits_an_object_without_losing_pixels(tmp_path: Path) -> None:
    given = b_frame(objects=2)
    probs = torch.zeros_like(given.probs)
    probs[0, 1:9, 1:7], probs[1, 3:6, 9:12] = 1, 1
    labels = (probs * torch.tensor([1, 2]).view(-1, 1, 1)).sum(0)
    given = given._replace(
        probs=probs, corrected=probs / 2, labels=labels.repeat_interleave(4, 0).repeat_interleave(4, 1).byte()
    )
    write_cached(frame_path(tmp_path, 0), given)
    mark_complete(tmp_path, range(1))
    crops = CachedBFrameCrops((Video(tmp_path, (0,)),), CropSettings((40, 56), 10, cut=1.0))
    halves = []
    for index in range(20):
        found, slot_mask = crops[0, index].b_frame, crops[0, index].slot_mask
        assert slot_mask.sum() == 3
        assert torch.equal(found.probs.sum(0), probs.sum(0))
        assert torch.equal(found.corrected, found.probs / 2)
        assert torch.equal(found.labels > 0, given.labels > 0)
        # Pixels belong to the object that has their cell, but for those that the line itself crosses.
        owner = torch.cat([found.probs.new_zeros(1, *GRID), found.probs]).argmax(0)
        same = found.labels == owner.repeat_interleave(4, 0).repeat_interleave(4, 1)
        assert same.float().mean() > 0.95
        halves.append(float(found.probs[slot_mask].sum((1, 2)).min()))
    assert max(halves) > 4
    with pytest.raises(ConfigError, match="cut=2"):
        CropSettings(cut=2)


def test_objects_keep_their_masks_in_random_slots(tmp_path: Path) -> None:
    written(tmp_path, objects=4)
    crops = CachedBFrameCrops((Video(tmp_path, (0, 1, 2)),), CropSettings((40, 56), 10))
    seen = set()
    for index in range(20):
        item = crops[0, index]
        assert item.slot_mask.sum() == 4
        for slot in item.slot_mask.nonzero().flatten().tolist():
            own = (item.b_frame.labels == slot + 1).float()[None, None]
            assert torch.equal(F.max_pool2d(own, 4)[0, 0], item.b_frame.probs[slot].float())
            assert torch.equal(item.b_frame.corrected[slot], item.b_frame.probs[slot] / 2)
        assert not item.b_frame.probs[~item.slot_mask].any()
        seen |= set(item.slot_mask.nonzero().flatten().tolist())
    assert seen == set(range(10))


def test_objects_without_a_slot_become_background(tmp_path: Path) -> None:
    crops = CachedBFrameCrops((Video(written(tmp_path, objects=3), (0,)),), CropSettings((40, 56), 1))
    shown = set()
    for index in range(20):
        labels = crops[0, index].b_frame.labels
        assert set(labels.unique().tolist()) == {0, 1}
        shown.add(int(labels.nonzero()[0, 1]))
    assert shown == {12, 24, 36}


def test_equal_addresses_give_equal_samples_and_batches_stack_them(tmp_path: Path) -> None:
    for name in "ab":
        written(tmp_path / name)
    videos = tuple(Video(tmp_path / name, (0, 1, 2)) for name in "ab")
    one, other = (CachedBFrameCrops(videos, CropSettings((16, 24), 3), seed=4) for _ in range(2))
    assert len(one) == 6
    first, second = (collate_cached([crops[2, i] for i in range(5)]) for crops in (one, other))
    assert first.names == second.names
    assert torch.equal(first.features, second.features)
    assert first.features.shape == (5, CHANNELS, 4, 6)
    assert (first.labels.shape, first.labels.dtype) == ((5, 16, 24), torch.int64)
    assert first.to("cpu").slot_mask.shape == (5, 3)
    assert not torch.equal(first.features, collate_cached([one[3, i] for i in range(5)]).features)


def test_folder_is_complete_once_its_index_exists(tmp_path: Path) -> None:
    write_cached(frame_path(tmp_path, 3), b_frame())
    assert cached_frames(tmp_path) is None
    data = CachedBFrameDataModule(tmp_path, CropSettings((16, 16)), ())
    with pytest.raises(DataError, match=f"{tmp_path}: incomplete"):
        data.open([tmp_path])
    mark_complete(tmp_path, [3])
    assert cached_frames(tmp_path) == (3,)
    data.open([tmp_path])


def test_damaged_caches_raise_data_errors(tmp_path: Path) -> None:
    path = frame_path(written(tmp_path), 1)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"00001\.safetensors: cannot be read"):
        read_cached(path)
    with pytest.raises(DataError, match=r"00009\.safetensors: cannot be read"):
        read_cached(frame_path(tmp_path, 9))
    with pytest.raises(DataError, match="exceed the range of half precision"):
        write_cached(path, b_frame()._replace(features=torch.full((CHANNELS, *GRID), 1e6)))
    (tmp_path / "index.json").write_text("[1,")
    with pytest.raises(DataError, match=r"index\.json: cannot be read"):
        cached_frames(tmp_path)
    with pytest.raises(ConfigError, match=r"size=\(30, 30\) must be multiples of 4"):
        CropSettings((30, 30))
    empty = tmp_path / "empty"
    mark_complete(empty, [])
    data = CachedBFrameDataModule(tmp_path, CropSettings((16, 16)), ())
    with pytest.raises(DataError, match="none of the training videos has a B-frame"):
        data.open([empty])
    with pytest.raises(ConfigError, match="no B-frames were cached"):
        data.train_dataloader()
