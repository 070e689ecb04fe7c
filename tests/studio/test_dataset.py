"""What is exported from the page: a data set for training, and videos with the times of the source."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from tests.studio.conftest import FRAMES, SIZE, images
from tests.studio.test_server import square
from tests.video.test_video_writer import audio_packets, with_audio
from voslab import Predictor
from voslab.cli.annotate_session import export
from voslab.core import DataError
from voslab.data.clips.augmentation import Augmentation, build_transform
from voslab.data.clips.dataset import ClipDataset, ClipSettings, VideoClips
from voslab.data.sources.folder import folder
from voslab.studio.project import AnnotatedObject, Project
from voslab.studio.proposer import GrabCut
from voslab.studio.workspace import Studio
from voslab.video import VideoWriter, open_video, read_image

TIMES = [Fraction(t, 30) for t in (0, 1, 2, 5, 6, 9, 10, 15)]


@pytest.fixture
def config(tmp_path: Path) -> DictConfig:
    return OmegaConf.create({"dataset": str(tmp_path / "data")})


def session(video: Path, target: Path, config: DictConfig, masks: dict[int, int]) -> Studio:
    """A session with a square in some frames, by its left column."""
    opened = open_video(video)
    project = Project(target, video, opened.size)
    project.set_objects([AnnotatedObject(1, "square")])
    for frame, left in masks.items():
        mask = np.zeros(opened.size, np.uint8)
        mask[10:24, left : left + 14] = 1
        project.give(frame, mask)
    found = Predictor.load(model="copy_first").session(opened, probabilities=True)
    names = ["overlay", "dataset"]
    return Studio(
        *(found, project, GrabCut(), lambda names, stored: export(config, target, names, stored, opened), names),
        *(video.name, "copy_first"),
    )


def files(root: Path) -> Iterator[str]:
    return (str(path.relative_to(root)) for path in sorted(root.rglob("*.*")) if path.is_file())


def test_the_data_set_is_read_for_training(clip: Path, tmp_path: Path, config: DictConfig) -> None:
    studio = session(clip, tmp_path / "clip", config, {0: 8, 2: 14, 5: 23})
    assert studio.save(["dataset"]) == [config.dataset]
    [video] = folder(config.dataset, split="train", annotated=True)
    assert (video.name, len(video)) == ("clip", 3)
    labels = video.labels(1)
    assert labels is not None
    np.testing.assert_array_equal(labels, square(14))
    np.testing.assert_array_equal(video.image(2), images()[5])  # images of a folder are copied
    augmentation = Augmentation(size=(32, 32), short=40, fit="crop")
    settings = ClipSettings(augmentation, frames=2, max_objects=1, min_area=1)
    item = ClipDataset((VideoClips((video,), settings),), build_transform(augmentation))[0, 0]
    assert item.slot_mask.all()
    assert (item.labels == 1).any()


def test_sessions_share_a_data_set_without_touching_each_other(clip: Path, tmp_path: Path, config: DictConfig) -> None:
    first = session(clip, tmp_path / "a" / "clip", config, {0: 8, 2: 14})
    first.save(["dataset"])
    root = Path(config.dataset)
    before = {name: (root / name).read_bytes() for name in files(root)}
    session(clip, tmp_path / "b" / "clip", config, {0: 30}).save(["dataset"])
    assert {name: (root / name).read_bytes() for name in before} == before
    assert [(each.name, len(each)) for each in folder(root, annotated=True)] == [("clip", 2), ("clip_2", 1)]
    first.forget(2)
    first.save(["dataset"])
    assert [(each.name, len(each)) for each in folder(root, annotated=True)] == [("clip", 1), ("clip_2", 1)]


def test_videos_that_are_in_the_folder_already_are_kept(clip: Path, tmp_path: Path, config: DictConfig) -> None:
    own = tmp_path / "data" / "frames" / "clip" / "00000.png"
    own.parent.mkdir(parents=True)
    own.write_bytes((clip / "00007.png").read_bytes())
    session(clip, tmp_path / "clip", config, {0: 8}).save(["dataset"])
    assert own.read_bytes() == (clip / "00007.png").read_bytes()
    assert (tmp_path / "data" / "masks" / "clip_2" / "00000.png").is_file()


@pytest.mark.parametrize("other", ["JPEGImages/480p/bear/00000.jpg", "frames/00000.jpg"])
def test_a_data_set_of_another_layout_is_refused(clip: Path, tmp_path: Path, config: DictConfig, other: str) -> None:
    path = tmp_path / "data" / other
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(DataError, match="another layout than frames/<video>/; give another folder"):
        session(clip, tmp_path / "clip", config, {0: 8}).save(["dataset"])
    assert list(files(tmp_path / "data")) == [other]


def test_videos_have_the_times_of_their_frames(tmp_path: Path, config: DictConfig) -> None:
    video = tmp_path / "clip.mp4"
    with VideoWriter(video, 30, SIZE) as writer:
        for image, time in zip(images(), TIMES, strict=True):
            writer.write(image, time)
    studio = session(video, tmp_path / "clip", config, dict.fromkeys(range(FRAMES), 8))
    [path, _] = studio.save(["overlay", "dataset"])
    with av.open(path) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert times == TIMES
    stored = read_image(tmp_path / "data" / "frames" / "clip" / "00003.jpg").astype(int)
    assert np.abs(stored - images()[3]).mean() < 8


def test_videos_have_the_sound_of_their_part(tmp_path: Path, config: DictConfig) -> None:
    video = with_audio(tmp_path / "clip.mp4")
    [path] = session(video, tmp_path / "clip", config, dict.fromkeys(range(10, 20), 8)).save(["overlay"])
    expected = [content for time, content in audio_packets(video) if 0.4 <= time < 0.8]
    assert [content for _, content in audio_packets(Path(path))] == expected
