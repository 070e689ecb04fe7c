from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from tests.data.tree import image, labels, save_image, save_mask
from voslab.cli.instantiate import instantiate
from voslab.core import ConfigError, DataError
from voslab.data import EvaluationItem, VideoSequence
from voslab.data.sources.folder import folder
from voslab.engine import Settings
from voslab.methods.copy_first.network import CopyFirst
from voslab.training.evaluation import EvaluationModule, segment_video

CONF = Path(__file__).resolve().parents[3] / "conf"


def tree(
    root: Path, names: tuple[str, ...] = ("ant", "bee"), frames: int = 6, kinds: tuple[str, str] = ("frames", "masks")
) -> Path:
    for name in names:
        for t in range(frames):
            save_image(root / kinds[0] / name / f"{t:05}.jpg", image(t))
            save_mask(root / kinds[1] / name / f"{t:05}.png", labels(t))
    return root


def names(sequences: tuple[VideoSequence, ...]) -> list[str]:
    return [sequence.name for sequence in sequences]


def annotated(sequence: VideoSequence) -> list[int]:
    return [index for index, mask in enumerate(sequence.masks) if mask is not None]


@pytest.mark.parametrize("kinds", [("frames", "masks"), ("JPEGImages", "Annotations"), ("frames", "Annotations")])
def test_folders_of_frames(tmp_path: Path, kinds: tuple[str, str]) -> None:
    ant, bee = folder(tree(tmp_path, kinds=kinds))
    assert (ant.name, bee.name, len(ant), ant.truth, ant.scores_last) == ("ant", "bee", 6, True, True)
    np.testing.assert_array_equal(bee.labels(4), labels(4))
    assert dict(ant.starts or {}) == {1: 0, 2: 0}


def test_sparse_masks_and_objects_that_come_later(tmp_path: Path) -> None:
    tree(tmp_path, names=("ant",))
    masks = tmp_path / "masks/ant"
    for t in (0, 2, 4):
        (masks / f"{t:05}.png").unlink()
    save_mask(masks / "00001.png", labels(1, ids=(7,)))
    save_mask(masks / "00003.png", labels(3, ids=(0, 9)))
    save_mask(masks / "00005.png", labels(5, ids=(7, 9)))
    (ant,) = folder(tmp_path)
    assert annotated(ant) == [1, 3, 5]
    assert dict(ant.starts or {}) == {7: 1, 9: 3}
    assert {t: np.unique(given).tolist() for t, given in ant.given_masks().items()} == {1: [0, 7], 3: [0, 9]}
    (clips,) = folder(tmp_path, annotated=True)
    assert [path.name for path in clips.images] == ["00001.jpg", "00003.jpg", "00005.jpg"]
    assert annotated(clips) == [0, 1, 2]


def test_void_is_no_object_and_merged_objects_are_one(tmp_path: Path) -> None:
    tree(tmp_path, names=("ant",))
    for t in range(6):
        save_mask(tmp_path / f"masks/ant/{t:05}.png", labels(t, ids=(3, 255)))
    (void,) = folder(tmp_path, void=255)
    (plain,) = folder(tmp_path)
    (merged,) = folder(tmp_path, merge=True)
    assert [set(one.starts or {}) for one in (void, plain, merged)] == [{3}, {3, 255}, {1}]


def test_names_that_are_not_numbers_and_do_not_start_at_zero(tmp_path: Path) -> None:
    for t in range(4):
        save_image(tmp_path / f"frames/ant/shot-{7 + t}.png", image(t))
    save_mask(tmp_path / "masks/ant/shot-7.png", labels(0))
    save_mask(tmp_path / "masks/ant/shot-10.png", labels(3))
    (ant,) = folder(tmp_path)
    assert [path.stem for path in ant.images] == ["shot-7", "shot-8", "shot-9", "shot-10"]
    assert annotated(ant) == [0, 3]


def test_one_video_straight_in_its_folder(tmp_path: Path) -> None:
    for t in range(3):
        save_image(tmp_path / f"my cat/frames/{t:05}.jpg", image(t))
    save_mask(tmp_path / "my cat/masks/00000.png", labels(0))
    (cat,) = folder(tmp_path / "my cat")
    assert (cat.name, len(cat), annotated(cat)) == ("my cat", 3, [0])
    assert not cat.truth  # nothing but what is given


def test_one_mask_for_the_first_frame(tmp_path: Path) -> None:
    tree(tmp_path, names=("ant",))
    for path in (tmp_path / "masks/ant").iterdir():
        path.unlink()
    save_mask(tmp_path / "masks/ant.png", labels(0, ids=(5,)))
    (ant,) = folder(tmp_path)
    np.testing.assert_array_equal(ant.given_masks()[0], labels(0, ids=(5,)))


def test_lists_pick_the_videos_of_a_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, names=("ant", "bee", "cow"))
    assert names(folder(tmp_path, split="val")) == ["ant", "bee", "cow"]
    assert "val.txt: no such list of videos; all 3" in caplog.text
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbfcow\r\n\r\nant\r\n")
    assert names(folder(tmp_path, split="train")) == ["ant", "cow"]
    assert names(folder(tmp_path)) == ["ant", "bee", "cow"]
    with pytest.raises(DataError, match=r"val\.txt: no such list of videos, though there is train\.txt"):
        folder(tmp_path, split="val")
    assert names(folder(tmp_path, split="train", only=["cow"])) == ["cow"]
    assert names(folder(tmp_path, without=["ant", "cow"])) == ["bee"]
    for option in ("only", "without"):
        with pytest.raises(ConfigError, match=r"no video 'bee' \(it has ant, cow\)"):
            folder(tmp_path, split="train", **{option: ["bee"]})


@pytest.mark.parametrize(
    ("text", "message"),
    [(b"ant\n\ndog", "line 3: there is no video 'dog'"), (b"\n", "empty"), (b"\xff\xfe\x00", "read")],
)
def test_strange_lists(tmp_path: Path, text: bytes, message: str) -> None:
    tree(tmp_path)
    (tmp_path / "train.txt").write_bytes(text)
    with pytest.raises(DataError, match=rf"train\.txt: .*{message}"):
        folder(tmp_path, split="train")


def remove(path: str) -> Callable[[Path], object]:
    return lambda root: [file.unlink() for file in sorted(root.glob(path))]


def add(path: str, content: Any = b"anything") -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("frames/ant/00002.jpg"), r"masks/ant/00002\.png: .*frames/ant has no frame .*00000 to 00005"),
        (remove("frames/ant/*"), r"frames/ant: no image in this folder \(looked for .*; there are none"),
        (lambda r: (remove("frames/ant/*")(r), add("frames/ant/1.heic")(r)), "no image in .*; there are 1.heic"),
        (lambda r: (remove("masks/ant/*")(r), add("masks/ant/1.npy")(r)), "masks/ant: no PNG .*; there are 1.npy"),
        (add("masks/ant/00003.jpg"), r"masks/ant/00003\.jpg: a mask must be a PNG"),
        (add("masks/ant.jpg"), r"masks/ant\.jpg: more masks of a video, besides .*masks/ant"),
        (add("masks/dog/00000.png"), r"masks/dog: masks, but there is no video of that name \(there are ant, bee\)"),
        (add("frames/ant/00001.png"), "frames/ant: 2 images are named 00001"),
        (add("videos/ant.mp4"), r"videos/ant\.mp4: a second video of that name, besides .*frames/ant"),
        (remove("masks/*/*"), "no masks for any of 2 videos, or no object in them; expected are frames/<video>/ or"),
        (lambda r: (r / "masks").rename(r / "labels"), "no masks; expected are .*, there are frames/, labels/"),
        (lambda r: (r / "frames").rename(r / "images"), "no videos; expected are .*, there are images/, masks/"),
        (lambda r: (r / "JPEGImages").mkdir(), "holds both frames/ and JPEGImages/"),
    ],
)
def test_malformed_annotations_are_reported(tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    change(tree(tmp_path))
    with pytest.raises(DataError, match=message) as error:
        folder(tmp_path)
    assert "\n" not in str(error.value)


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder; expected in it are frames/<video>/"):
        folder(tmp_path / "nowhere")


def test_empty_masks(tmp_path: Path) -> None:
    tree(tmp_path, names=("ant",), frames=2)
    for t in range(2):
        save_mask(tmp_path / f"masks/ant/{t:05}.png", labels(t, ids=()))
    with pytest.raises(DataError, match="sequence ant: no object in any of its masks"):
        folder(tmp_path)[0].given_masks()


def test_listing_reads_no_image_and_sequences_can_be_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read")

    tree(tmp_path)
    for hidden in ("frames/.DS_Store", "masks/.DS_Store", "frames/ant/._00000.jpg", "masks/ant/._00000.png"):
        add(hidden)(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", refuse)
        listed = folder(tmp_path)
    assert pickle.loads(pickle.dumps(listed)) == listed


def test_the_config_takes_its_folder_from_one_place(tmp_path: Path) -> None:
    tree(tmp_path / "my data")
    (tmp_path / "my data/val.txt").write_text("bee")
    (tmp_path / "my data/train.txt").write_text("ant")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("evaluate", ["data=folder", f"paths.folder='{tmp_path / 'my data'}'", "data.train.void=2"])
    data = instantiate(config.data)
    assert names(data.train()) == ["ant"]
    assert names(data.val()) == names(data.test()) == ["bee"]
    assert [source()[0].void for source in (data.train, data.val, data.test)] == [2, 2, 2]


def test_evaluation_scores_sparse_masks(tmp_path: Path) -> None:
    tree(tmp_path, names=("ant",))
    for t in (1, 2, 4):
        (tmp_path / f"masks/ant/{t:05}.png").unlink()
    module = EvaluationModule(lambda one: segment_video(CopyFirst(), Settings(), one))
    module.evaluate_item(EvaluationItem(0, *folder(tmp_path)))
    # An 8 x 8 square that has moved by 3 and by 5 pixels.
    assert module.conclude()["J-Mean"] == pytest.approx(np.mean([5 / 11, 3 / 13]))


def test_training_leaves_out_videos_without_any_object(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path)
    for t in range(6):
        save_mask(tmp_path / "masks/ant" / f"{t:05}.png", np.zeros_like(labels(t)))
    assert names(folder(tmp_path, annotated=True)) == ["bee"]
    assert caplog.messages == [f"{tmp_path / 'frames/ant'}: left out, none of its masks has an object"]
    assert names(folder(tmp_path)) == ["ant", "bee"]
