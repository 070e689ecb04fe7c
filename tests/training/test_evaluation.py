from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.core import DataError
from src.data import EvaluationItem, Sequence
from src.data.davis import davis
from src.data.generated import generate
from src.engine import Settings
from src.methods.copy_first.network import CopyFirst
from src.training.evaluation import EvaluationModule, from_files, segmented
from src.training.gallery import comparison
from src.video import write_mask

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sequence, ...]:
    root = generate(tmp_path_factory.mktemp("generated"), train=1, val=3, frames=6, size=(48, 64), objects=(2, 2))
    return davis(root, 2017, "val")


def scored(module: EvaluationModule, videos: tuple[Sequence, ...]) -> dict[str, float]:
    module.reset_metrics()
    for index, video in enumerate(videos):
        module.evaluate_item(EvaluationItem(index, video))
    return module.conclude()


def test_perfect_masks_score_one_and_frames_are_counted(videos: tuple[Sequence, ...], tmp_path: Path) -> None:
    for video in videos:
        for i in range(len(video)):
            labels = video.labels(i)
            assert labels is not None
            write_mask(tmp_path / video.name / f"{i:05d}.png", labels)
    module = EvaluationModule(partial(from_files, tmp_path))
    metrics = scored(module, videos)
    assert (metrics["J&F-Mean"], metrics["J-Recall"], metrics["J-Decay"]) == (1, 1, 0)
    assert [(row.sequence, row.object, row.frames) for row in module.table.objects] == [
        (sequence, thing, 4) for sequence in range(3) for thing in (1, 2)
    ]


def test_the_first_and_the_last_frame_do_not_count(videos: tuple[Sequence, ...], tmp_path: Path) -> None:
    video = videos[0]
    for i in range(len(video)):
        labels = video.labels(i)
        assert labels is not None
        write_mask(tmp_path / video.name / f"{i:05d}.png", labels if 0 < i < len(video) - 1 else labels * 0)
    assert scored(EvaluationModule(partial(from_files, tmp_path)), videos[:1])["J&F-Mean"] == 1


def test_merged_sequences_are_scored_merged_whatever_the_masks_hold(
    videos: tuple[Sequence, ...], tmp_path: Path
) -> None:
    merged = Sequence(videos[0].name, videos[0].images, videos[0].masks, merge=True)
    for i in range(len(merged)):
        labels = merged.labels(i)
        assert labels is not None
        write_mask(tmp_path / merged.name / f"{i:05d}.png", labels * 255)
    module = EvaluationModule(partial(from_files, tmp_path))
    assert scored(module, (merged,))["J&F-Mean"] == 1
    assert [row.object for row in module.table.objects] == [1]


def test_white_masks_are_the_one_object(videos: tuple[Sequence, ...], tmp_path: Path) -> None:
    for i in range(6):
        labels = videos[0].labels(i)
        assert labels is not None
        write_mask(tmp_path / "val_000" / f"{i:05d}.png", (labels == 1) * np.int32(255))
    module = EvaluationModule(partial(from_files, tmp_path))
    scored(module, videos[:1])
    first, second = module.table.objects
    assert (first.object, first.region.mean) == (1, 1)
    assert second.region.mean < 1


def test_missing_and_misshapen_predictions_are_named(videos: tuple[Sequence, ...], tmp_path: Path) -> None:
    module = EvaluationModule(partial(from_files, tmp_path))
    with pytest.raises(DataError, match=r"val_000.00000\.png: no such mask \(sequence val_000, frame 0 of 6\)"):
        scored(module, videos)
    for i in range(6):
        write_mask(tmp_path / "val_000" / f"{i:05d}.png", np.ones((48, 65), np.uint8))
    with pytest.raises(DataError, match=r"00001\.jpg: its mask is \(48, 64\), the prediction \(48, 65\)"):
        scored(module, videos)


def test_the_floor_is_a_floor(videos: tuple[Sequence, ...]) -> None:
    metrics = scored(EvaluationModule(partial(segmented, CopyFirst(), Settings())), videos)
    assert 0 < metrics["J-Mean"] < 0.7
    assert metrics["frames_per_second"] > 0
    assert metrics["peak_memory_mb"] > 50


def test_errors_are_red_where_missed_and_blue_where_claimed() -> None:
    image = np.full((4, 6, 3), 100, np.uint8)
    ids, truth = np.zeros((4, 6), np.int64), np.zeros((4, 6), np.int32)
    truth[0, 0], ids[3, 5], truth[2, 2], ids[2, 2], truth[1, 1] = 1, 1, 2, 2, 255
    panel = comparison(image, ids, truth)
    assert panel.shape == (4, 18, 3)
    error = panel[:, 12:].astype(int)
    assert error[0, 0, 0] > error[0, 0, 2]
    assert error[3, 5, 2] > error[3, 5, 0]
    assert (error[2, 2] == 100).all()
    assert (error[1, 1] == 100).all()


MEMORY = """
import sys
from functools import partial
from pathlib import Path
from src.data import EvaluationItem, Sequence
from src.engine import Settings
from src.methods.copy_first.network import CopyFirst
from src.training.evaluation import EvaluationModule, segmented
image, mask = Path(sys.argv[1]), Path(sys.argv[2])
module = EvaluationModule(partial(segmented, CopyFirst(), Settings()))
for index in range(6):
    module.evaluate_item(EvaluationItem(index, Sequence(str(index), (image,) * 30, (mask,) * 30)))
    print(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident set from /proc")
def test_the_memory_of_an_evaluation_does_not_grow(tmp_path: Path) -> None:
    """Small values kept per frame once pinned a picture's worth of heap each: 400 MB for 90 frames."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 854, 3), np.uint8)).save(tmp_path / "a.jpg")
    write_mask(tmp_path / "a.png", np.tri(480, 854, dtype=np.uint8))
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "a.jpg"), str(tmp_path / "a.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    sizes = [int(line) for line in done.stdout.split()]
    assert sizes[-1] - sizes[0] < 100e6
