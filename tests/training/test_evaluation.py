from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tree import save_mask
from tests.data.youtube_tree import FILMS, youtube_tree
from tests.video.clips import encode, moving_square
from voslab.core import DataError
from voslab.data import EvaluationItem, VideoSequence
from voslab.data.sources.davis import davis
from voslab.data.sources.folder import folder
from voslab.data.sources.synthetic.generated import generate
from voslab.data.sources.youtube_vos import youtube_vos
from voslab.engine import Prediction, Settings, run
from voslab.engine.codec_source import CodecSource
from voslab.methods.copy_first.network import CopyFirst
from voslab.methods.vectors.network import Vectors
from voslab.metrics import youtube_vos_score
from voslab.training.evaluation import EvaluationModule, mask_sinks, segment_video
from voslab.training.gallery import comparison
from voslab.training.predictions import read_predictions
from voslab.video import open_video, write_mask

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoSequence, ...]:
    root = generate(tmp_path_factory.mktemp("generated"), train=1, val=3, frames=6, size=(48, 64), objects=(2, 2))
    return davis(root, 2017, "val")


def scored(module: EvaluationModule, videos: tuple[VideoSequence, ...]) -> dict[str, float]:
    module.reset_metrics()
    for index, video in enumerate(videos):
        module.evaluate_item(EvaluationItem(index, video))
    return module.conclude()


def test_perfect_masks_score_one_and_frames_are_counted(videos: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    for video in videos:
        for i in range(len(video)):
            labels = video.labels(i)
            assert labels is not None
            write_mask(tmp_path / video.name / f"{i:05d}.png", labels)
    module = EvaluationModule(partial(read_predictions, tmp_path))
    metrics = scored(module, videos)
    assert (metrics["J&F-Mean"], metrics["J-Recall"], metrics["J-Decay"]) == (1, 1, 0)
    assert [(row.sequence, row.object, row.frames) for row in module.table.objects] == [
        (sequence, thing, 4) for sequence in range(3) for thing in (1, 2)
    ]


def test_exchanged_masks_count_as_identity_switches(videos: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    video = videos[2]
    for i in range(len(video)):
        labels = video.labels(i)
        assert labels is not None
        write_mask(tmp_path / video.name / f"{i:05d}.png", np.array([0, 2, 1])[labels] if i == 3 else labels)
    module = EvaluationModule(partial(read_predictions, tmp_path))
    assert scored(module, (video,))["identity_switches"] == 4  # there and back, two objects
    merged = VideoSequence(video.name, video.images, video.masks, merge=True)
    assert "identity_switches" not in scored(module, (merged,))


def test_first_and_last_frame_are_not_scored(videos: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    video = videos[0]
    for i in range(len(video)):
        labels = video.labels(i)
        assert labels is not None
        write_mask(tmp_path / video.name / f"{i:05d}.png", labels if 0 < i < len(video) - 1 else labels * 0)
    assert scored(EvaluationModule(partial(read_predictions, tmp_path)), videos[:1])["J&F-Mean"] == 1


def test_merged_sequences_are_scored_as_one_object(videos: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    merged = VideoSequence(videos[0].name, videos[0].images, videos[0].masks, merge=True)
    for i in range(len(merged)):
        labels = merged.labels(i)
        assert labels is not None
        write_mask(tmp_path / merged.name / f"{i:05d}.png", labels * 255)
    module = EvaluationModule(partial(read_predictions, tmp_path))
    assert scored(module, (merged,))["J&F-Mean"] == 1
    assert [row.object for row in module.table.objects] == [1]


def test_white_masks_are_object_one(videos: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    for i in range(6):
        labels = videos[0].labels(i)
        assert labels is not None
        write_mask(tmp_path / "val_000" / f"{i:05d}.png", (labels == 1) * np.int32(255))
    module = EvaluationModule(partial(read_predictions, tmp_path))
    scored(module, videos[:1])
    first, second = module.table.objects
    assert (first.object, first.region.mean) == (1, 1)
    assert second.region.mean < 1


@pytest.mark.parametrize("place", ["val_000", "val_000/masks", "masks/val_000"])
def test_masks_lie_where_programs_write_them(videos: tuple[VideoSequence, ...], tmp_path: Path, place: str) -> None:
    for i in range(6):
        labels = videos[0].labels(i)
        assert labels is not None
        write_mask(tmp_path / place / f"{i:05d}.png", labels)
    assert scored(EvaluationModule(partial(read_predictions, tmp_path)), videos[:1])["J&F-Mean"] == 1


def test_masks_of_a_single_sequence_need_no_folder(videos: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    for i in range(6):
        labels = videos[0].labels(i)
        assert labels is not None
        write_mask(tmp_path / "masks" / f"{i:05d}.png", labels)
    assert scored(EvaluationModule(partial(read_predictions, tmp_path, alone=True)), videos[:1])["J&F-Mean"] == 1
    with pytest.raises(DataError, match=r"val_000.00000\.png: no such mask"):
        scored(EvaluationModule(partial(read_predictions, tmp_path)), videos[:1])


def test_missing_or_misshapen_predictions_are_named(videos: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    module = EvaluationModule(partial(read_predictions, tmp_path))
    with pytest.raises(DataError, match=r"val_000.00000\.png: no such mask \(sequence val_000, frame 0 of 6\)"):
        scored(module, videos)
    for i in range(6):
        write_mask(tmp_path / "val_000" / f"{i:05d}.png", np.ones((48, 65), np.uint8))
    with pytest.raises(DataError, match=r"00000\.jpg: its mask is \(48, 64\), the prediction \(48, 65\)"):
        scored(module, videos)


def test_video_file_is_scored_with_its_own_motion_vectors(tmp_path: Path) -> None:
    images = moving_square(12, (64, 96))
    (tmp_path / "videos").mkdir()
    file = encode(tmp_path / "videos/square.mp4", images, bf="3")
    first = np.zeros((64, 96), np.int32)
    first[8:24, :12] = 1
    write_mask(tmp_path / "masks/square.png", first)
    [video] = folder(tmp_path, cache=tmp_path / "frames")
    codec_source = CodecSource(tmp_path / "coded")
    scored_ones = [prediction.ids for prediction in segment_video(Vectors(), Settings(), video, codec_source)]
    plain = [prediction.ids for prediction in run(Vectors(), codec_source.frames(open_video(file)), {0: first})]
    assert len(scored_ones) == len(plain) == 12
    assert all(np.array_equal(one, other) for one, other in zip(scored_ones, plain, strict=True))
    assert not (tmp_path / "coded").exists(), "nothing was encoded anew"
    [some] = folder(tmp_path, cache=tmp_path / "frames", annotated=True)
    assert some.file is None, "some of a video's frames are no video file"


def test_copy_first_scores_below_perfect_masks(videos: tuple[VideoSequence, ...]) -> None:
    metrics = scored(EvaluationModule(partial(segment_video, CopyFirst(), Settings())), videos)
    assert 0 < metrics["J-Mean"] < 0.7
    assert metrics["frames_per_second"] > 0
    assert metrics["first_frame_seconds"] > 0
    assert metrics["peak_memory_mb"] > 50


def test_first_frame_seconds_are_those_of_the_first_object_averaged_over_videos(
    videos: tuple[VideoSequence, ...],
) -> None:
    later = replace(videos[0], starts={1: 3, 2: 3})

    def predict(video: VideoSequence) -> Iterator[Prediction]:
        for i in range(len(video)):
            labels = video.labels(i)
            assert labels is not None
            yield Prediction(i, video.image(i), labels.astype(np.int64), seconds[video.name] if i == 3 else 0.1)

    seconds = {"first": 5.0, "second": 7.0}
    module = EvaluationModule(predict)
    for index, name in ((0, "first"), (1, "second"), (-1, "first")):
        module.evaluate_item(EvaluationItem(index, replace(later, name=name)))
    assert module.conclude()["first_frame_seconds"] == 6


@pytest.fixture
def late(videos: tuple[VideoSequence, ...], tmp_path: Path) -> VideoSequence:
    """Six frames; object 1 is always present, object 2 appears in frame 2; frames 0 and 4 are not requested."""
    for i in range(6):
        labels = videos[0].labels(i)
        assert labels is not None
        write_mask(tmp_path / "truth" / f"{i:05d}.png", labels if i >= 2 else np.where(labels == 2, 0, labels))
    masks = tuple(sorted((tmp_path / "truth").iterdir()))
    return replace(videos[0], masks=masks, starts={1: 0, 2: 2}, outputs=(1, 2, 3, 5), scores_last=True)


def predict(folder: Path, video: VideoSequence, frames: Iterable[int], wrong: tuple[int, ...] = ()) -> EvaluationModule:
    """Masks as the truth has them, nothing in some."""
    for i in frames:
        labels = video.labels(i)
        assert labels is not None
        write_mask(folder / video.name / f"{i:05d}.png", labels * (i not in wrong))
    return EvaluationModule(partial(read_predictions, folder))


def test_late_objects_are_scored_after_their_given_frame(late: VideoSequence, tmp_path: Path) -> None:
    module = predict(tmp_path, late, (1, 2, 3, 5), wrong=(2,))
    metrics = scored(module, (late,))
    first, second = module.table.objects
    # Frames 1, 2, 3, 5 and frames 3, 5: neither what was given nor what is not asked for, but the last one.
    assert (first.object, first.frames, first.region.mean) == (1, 4, 0.75)
    assert (second.object, second.frames, second.region.mean) == (2, 2, 1.0)
    assert metrics["J-Mean"] == 0.875
    scored(predict(tmp_path, late, (5,), wrong=(5,)), (late,))
    scored(module, (late,))
    assert [row.region.mean for row in module.table.objects] == [0.5, 0.5]


def test_unrequested_frames_are_predicted_but_not_scored(late: VideoSequence) -> None:
    module = EvaluationModule(partial(segment_video, CopyFirst(), Settings()))
    assert module.evaluate_item(EvaluationItem(0, late)).frames == 6
    module.conclude()
    assert [(row.object, row.frames) for row in module.table.objects] == [(1, 4), (2, 2)]


def test_only_requested_masks_must_exist(late: VideoSequence, tmp_path: Path) -> None:
    module = predict(tmp_path, late, (1, 2, 3))
    with pytest.raises(DataError, match=r"val_000.00005\.png: no such mask"):
        scored(module, (late,))
    predict(tmp_path, late, (5,))
    assert scored(module, (late,))["J&F-Mean"] == 1


def test_frames_without_objects_or_truth_are_not_scored(late: VideoSequence, tmp_path: Path) -> None:
    sparse = replace(late, masks=(None, *late.masks[1:3], None, *late.masks[4:]), starts={1: 1, 2: 2}, outputs=None)
    module = predict(tmp_path, late, range(6))
    scored(module, (sparse,))
    assert [(row.object, row.frames) for row in module.table.objects] == [(1, 3), (2, 2)]


def test_masks_without_truth_are_written_but_not_scored(late: VideoSequence, tmp_path: Path) -> None:
    given = replace(late, masks=(late.masks[0], None, late.masks[2], None, None, None), truth=False)
    module = EvaluationModule(partial(segment_video, CopyFirst(), Settings()), mask_sinks(tmp_path))
    metrics = scored(module, (given,))
    assert np.isnan(metrics["J&F-Mean"])
    assert metrics["frames_per_second"] > 0
    written = sorted(path.name for path in (tmp_path / "masks" / late.name).iterdir())
    assert written == ["00001.png", "00002.png", "00003.png", "00005.png"]


def test_process_without_sequences_does_nothing(late: VideoSequence, tmp_path: Path) -> None:
    module = EvaluationModule(partial(segment_video, CopyFirst(), Settings()), mask_sinks(tmp_path))
    assert module.evaluate_item(EvaluationItem(-1, late)).frames == 0
    assert not (tmp_path / "masks").exists()
    assert np.isnan(module.conclude()["J&F-Mean"])


def test_g_is_reported_for_youtube_vos_with_truth(tmp_path: Path) -> None:
    root = youtube_tree(tmp_path)
    for name, film in FILMS.items():
        for number in film.annotated:
            save_mask(root / f"valid/Annotations/{name}/{number:05}.png", film.labels(number))
    sequences = youtube_vos(root, "valid_all_frames", truth=True)
    module = EvaluationModule(partial(segment_video, CopyFirst(), Settings()))
    scored(module, sequences)
    metrics = youtube_vos_score(module.table, [video.unseen for video in sequences])
    # Squares of width 8 have moved by these numbers of pixels: the ape's from 25 to 30 by 3.
    moved = {pixels: (8 - pixels) / (8 + pixels) for pixels in (2, 3, 5, 7)}
    assert metrics["J-Unseen"] == pytest.approx(moved[3])
    # Fish 1 is scored at 5, 10 and 15, fish 2 at 10 and 15; the dog of frame 30 never, the other one at 41.
    seen = [np.mean([moved[2], moved[5], moved[7]]), np.mean([moved[3], moved[5]]), moved[2]]
    assert metrics["J-Seen"] == pytest.approx(np.mean(seen))
    parts = [metrics[f"{measure}-{part}"] for measure in "JF" for part in ("Seen", "Unseen")]
    assert metrics["G-Mean"] == pytest.approx(np.mean(parts))


def test_missed_pixels_are_red_and_false_positives_blue() -> None:
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
from voslab.data import EvaluationItem, VideoSequence
from voslab.engine import Settings
from voslab.methods.copy_first.network import CopyFirst
from voslab.training.evaluation import EvaluationModule, segment_video
image, mask = Path(sys.argv[1]), Path(sys.argv[2])
module = EvaluationModule(partial(segment_video, CopyFirst(), Settings()))
for index in range(6):
    module.evaluate_item(EvaluationItem(index, VideoSequence(str(index), (image,) * 30, (mask,) * 30)))
    print(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident set from /proc")
def test_evaluation_does_not_leak_memory(tmp_path: Path) -> None:
    """Small values kept per frame once held an image's worth of heap each: 400 MB for 90 frames."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 854, 3), np.uint8)).save(tmp_path / "a.jpg")
    write_mask(tmp_path / "a.png", np.tri(480, 854, dtype=np.uint8))
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "a.jpg"), str(tmp_path / "a.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    sizes = [int(line) for line in done.stdout.split()]
    assert sizes[-1] - sizes[0] < 100e6
