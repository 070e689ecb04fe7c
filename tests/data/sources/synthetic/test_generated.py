from __future__ import annotations

import hashlib
import json
import multiprocessing
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from voslab.core import ConfigError, DataError, WriteError
from voslab.data import VideoSequence
from voslab.data.sources.davis import davis
from voslab.data.sources.synthetic import build
from voslab.data.sources.synthetic.generated import generate, generated

SMALL: dict[str, Any] = {"train": 2, "val": 1, "frames": 3, "size": (48, 80)}


def digest(root: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            total.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return total.hexdigest()


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def test_data_have_the_layout_of_davis(tmp_path: Path) -> None:
    root = generate(tmp_path / "videos", **SMALL)
    train = davis(root, 2017, "train")
    assert [s.name for s in train] == ["train_000", "train_001"]
    assert [s.name for s in davis(root, 2016, "val")] == ["val_000"]
    assert [len(s) for s in train] == [3, 3]
    assert train[0].image(0).shape == (48, 80, 3)
    with Image.open(train[0].masks[0] or "") as mask:
        assert mask.mode == "P"
    assert json.loads((root / "generated.json").read_text())["size"] == [48, 80]
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]


def test_files_depend_on_the_seed_only(tmp_path: Path) -> None:
    digests = [digest(generate(tmp_path / str(k), seed, **SMALL)) for k, seed in enumerate((0, 0, 1))]
    assert digests[0] == digests[1] != digests[2]


def test_existing_data_are_not_written_again(tmp_path: Path) -> None:
    root = generate(tmp_path / "videos", **SMALL)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    generated(root, "val", **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    with pytest.raises(DataError, match=r"videos: generated with other parameters \(frames 3 not 4\)"):
        generate(root, **(SMALL | {"frames": 4}))


def test_folders_with_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match=r"exists and is no generated data set"):
        generate(tmp_path, **SMALL)
    with pytest.raises(DataError, match=r"note\.txt: exists and is no generated data set"):
        generate(tmp_path / "note.txt", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    (tmp_path / "empty").mkdir()
    assert len(generated(tmp_path / "empty", **SMALL)) == 2


def test_several_processes_can_generate_at_the_same_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        jobs = [pool.apply_async(generate, (tmp_path / "videos",), SMALL) for _ in range(4)]
        assert {job.get(60) for job in jobs} == {tmp_path / "videos"}
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]
    assert digest(tmp_path / "videos") == digest(generate(tmp_path / "alone", **SMALL))


@pytest.mark.parametrize("frames", [3, 4])
def test_a_process_that_finishes_second_keeps_the_data_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    root = tmp_path / "videos"
    write = build.atomic_folder

    def finish_second(target: Path) -> AbstractContextManager[Path]:
        monkeypatch.undo()
        folder = write(target)
        generate(root, **(SMALL | {"frames": frames}))
        return folder

    monkeypatch.setattr(build, "atomic_folder", finish_second)
    if frames == SMALL["frames"]:
        assert generate(root, **SMALL) == root
    else:
        with pytest.raises(DataError, match=r"generated with other parameters \(frames 4 not 3\)"):
            generate(root, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]
    assert len(generated(root, **(SMALL | {"frames": frames}))[0]) == frames


def test_a_failure_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("voslab.data.sources.synthetic.generated.write_mask", full)
    with pytest.raises(WriteError, match=r"videos: cannot be written \(No space left on device\)"):
        generate(tmp_path / "videos", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"frames": 0}, {"val": 0}, {"size": (8, 200)}, {"size": (200, 64)}, {"objects": (3, 2)}]
)
def test_invalid_parameters_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="generated data"):
        generate(tmp_path / "videos", **(SMALL | wrong))
    assert list(tmp_path.iterdir()) == []


def test_too_many_objects_for_the_image_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voslab.data.sources.synthetic.scene._ATTEMPTS", 3)
    with pytest.raises(ConfigError, match="200 objects do not fit"):
        generate(tmp_path / "videos", **(SMALL | {"objects": (200, 200), "size": (32, 32), "train": 1}))


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoSequence, ...]:
    return generated(tmp_path_factory.mktemp("data") / "videos", "val")


def test_all_objects_are_visible_in_the_first_frame(default: tuple[VideoSequence, ...]) -> None:
    for sequence in default:
        ids = [np.unique(sequence.labels(t)) for t in range(len(sequence))]
        assert set(np.concatenate(ids)) == set(ids[0])
        assert ids[0].tolist() == list(range(len(ids[0])))
        assert 2 <= len(ids[0]) <= 4
        assert np.bincount(sequence.given_masks()[0].ravel()).min() > 40
    assert len({len(np.unique(sequence.given_masks()[0])) for sequence in default}) > 1


def test_objects_move_away_but_overlap_in_consecutive_frames(default: tuple[VideoSequence, ...]) -> None:
    still, following = [], []
    for sequence in default:
        maps = [sequence.labels(t) for t in range(len(sequence))]
        for identity in range(1, int(maps[0].max()) + 1):
            masks = [one == identity for one in maps]
            still.append(np.mean([jaccard(masks[0], mask) for mask in masks[1:-1]]))
            following.append(np.mean([jaccard(a, b) for a, b in pairwise(masks)]))
    assert np.mean(still) < 0.4
    assert np.mean(following) > 0.6


def test_no_colour_threshold_separates_objects_from_the_background(default: tuple[VideoSequence, ...]) -> None:
    best = []
    for sequence in default:
        truth = sequence.given_masks()[0] > 0
        channels = sequence.image(0).reshape(-1, 3).T.astype(int)
        cuts = [(c > t).reshape(truth.shape) for c in channels for t in range(0, 256, 8)]
        best.append(max(max(jaccard(cut, truth), jaccard(~cut, truth)) for cut in cuts))
    assert np.mean(best) < 0.75
