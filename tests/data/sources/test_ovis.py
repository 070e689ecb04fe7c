from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from tests.data.ovis_tree import SIZE, annotation, content, moving, ovis_tree, square, video
from voslab.cli.instantiate import instantiate
from voslab.core import ConfigError, DataError
from voslab.data import EvaluationItem, VideoSequence
from voslab.data.sources.ovis import ovis
from voslab.engine import Settings
from voslab.methods.copy_first.network import CopyFirst
from voslab.training.evaluation import EvaluationModule, segment_video

CONF = Path(__file__).resolve().parents[3] / "conf"


def names(sequences: tuple[VideoSequence, ...]) -> list[str]:
    return [sequence.name for sequence in sequences]


def test_every_object_of_the_first_frame_is_a_sequence_of_its_own(tmp_path: Path) -> None:
    listed = ovis(ovis_tree(tmp_path))
    assert names(listed) == [f"clip{v:02}_{v}{k}" for v in (1, 2, 3) for k in (1, 2)]
    gappy, always = listed[2:4]
    assert [path.name for path in gappy.images] == [f"img_{t:07}.jpg" for t in (1, 2, 3, 4, 5)]
    assert gappy.scores_last
    assert gappy.starts is None
    for t in range(5):
        np.testing.assert_array_equal(always.labels(t), square(0, 2 + 2 * t))
        np.testing.assert_array_equal(gappy.labels(t), square(8, 2 + 2 * t) * (t != 2))
    np.testing.assert_array_equal(gappy.given_masks()[0], square(8, 2))


def test_all_objects_together_with_late_ones(tmp_path: Path) -> None:
    (one, *_) = ovis(ovis_tree(tmp_path), single=False)
    assert one.name == "clip01"
    assert one.starts == {1: 0, 2: 0, 3: 3}  # annotations 11 and 12, then 10
    expected = square(8, 10) + 2 * square(0, 10) + 3 * square(16, 10)
    np.testing.assert_array_equal(one.labels(4), expected)
    given = one.given_masks()
    assert list(given) == [0, 3]
    np.testing.assert_array_equal(given[0], square(8, 2) + 2 * square(0, 2))
    np.testing.assert_array_equal(given[3], 3 * square(16, 8))


def test_an_object_without_pixels_is_not_visible(tmp_path: Path) -> None:
    empty = np.zeros(SIZE, np.uint8)
    for kind in ("string", "numbers"):
        masks = [empty, *moving(0, 5)[1:]]
        tree = ovis_tree(tmp_path / kind, {"videos": [video(1, "a")], "annotations": [annotation(1, 1, masks, kind)]})
        with pytest.raises(DataError, match="no object in the first frame of any of 1 videos"):
            ovis(tree)
        assert ovis(tree, single=False)[0].starts == {1: 1}


def test_a_frame_without_objects_is_empty_and_no_frame_is_unannotated(tmp_path: Path) -> None:
    what = {"videos": [video(1, "a")], "annotations": [annotation(1, 1, moving(0, 5, absent=(1, 2, 3)))]}
    (one,) = ovis(ovis_tree(tmp_path, what))
    for t in (1, 2, 3):
        np.testing.assert_array_equal(one.labels(t), np.zeros(SIZE))


def test_crowds_are_left_out(tmp_path: Path) -> None:
    what = content(1)
    what["annotations"][0]["iscrowd"] = 1
    assert names(ovis(ovis_tree(tmp_path, what))) == ["clip01_11"]


def test_three_hundred_objects(tmp_path: Path) -> None:
    pixels = [square(k // 40, k % 40, side=1) for k in range(301)]
    what = {
        "videos": [video(7, "crowded", 3)],
        "annotations": [annotation(k + 1, 7, [None, mask, None]) for k, mask in enumerate(pixels[:300])],
    }
    what["annotations"].append(annotation(999, 7, [pixels[300], None, None]))
    (one,) = ovis(ovis_tree(tmp_path, what), single=False)
    ids = [identity for identity in range(1, 303) if identity != 255]
    assert one.starts == {identity: int(identity > 1) for identity in ids}
    labels = one.labels(1)
    assert labels is not None
    np.testing.assert_array_equal(labels.ravel()[:300], ids[1:])
    assert len(ovis(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "folder", "options"),
    [
        ("annotations/annotations_train.json", "train", {}),
        ("train.json", "train/JPEGImages", {}),
        ("train/instances.json", "train/JPEGImages", {}),
        ("annotations/instances_train_sub.json", "train", {}),
        ("my masks.json", "valid", {"annotations": "my masks.json", "split": "valid"}),
        ("annotations/part.json", "train", {"annotations": "part.json"}),
    ],
)
def test_the_layouts_people_have(tmp_path: Path, file: str, folder: str, options: dict[str, Any]) -> None:
    listed = ovis(ovis_tree(tmp_path, file=file, folder=folder), **options)
    assert listed[0].image(0).shape == (*SIZE, 3)


def test_the_draw_depends_on_names_alone(tmp_path: Path) -> None:
    what = content(12)
    what["annotations"] = [one for one in what["annotations"] if one["video_id"] != 5 or one["id"] == 50]
    forwards = ovis_tree(tmp_path / "forwards", what)
    what["videos"].reverse()
    what["annotations"].reverse()
    backwards = ovis_tree(tmp_path / "backwards", what)
    drawn = names(ovis(forwards, videos=4))
    assert len(drawn) == 8
    assert drawn == sorted(drawn) == names(ovis(backwards, videos=4))
    # Nothing but the videos that leave can change: the others keep their places.
    gone = drawn[0].partition("_")[0]
    assert set(drawn[2:]) < set(names(ovis(forwards, videos=4, without=[gone])))
    assert len({tuple(names(ovis(forwards, videos=4, seed=seed))) for seed in range(8)}) > 4
    # Video 5 has no object in frame 0.
    assert "clip05" not in {name.partition("_")[0] for name in names(ovis(forwards, videos=11))}
    with pytest.raises(DataError, match="11 videos have an object in frame 0, 12 cannot be drawn"):
        ovis(forwards, videos=12)


def test_videos_held_out_are_those_that_would_be_drawn(tmp_path: Path) -> None:
    tree = ovis_tree(tmp_path, content(6))
    tested = {name.partition("_")[0] for name in names(ovis(tree, videos=2))}
    trained = names(ovis(tree, single=False, held_out=2))
    assert len(trained) == 4
    assert not tested & set(trained)
    for wrong in ({"videos": 0}, {"held_out": -1}, {"videos": 1, "held_out": 1}):
        with pytest.raises(ConfigError, match="at most one of them"):
            ovis(tree, **wrong)


def test_picked_and_repeated_videos(tmp_path: Path) -> None:
    tree = ovis_tree(tmp_path)
    assert names(ovis(tree, single=False, only=["clip03", "clip01"])) == ["clip01", "clip03"]
    assert names(ovis(tree, single=False, without=["clip02"])) == ["clip01", "clip03"]
    for option in ("only", "without"):
        with pytest.raises(ConfigError, match="has no video 'clip99'"):
            ovis(tree, **{option: ["clip01", "clip99"]})


def test_listing_reads_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read")

    tree = ovis_tree(tmp_path)
    monkeypatch.setattr(Image, "open", refuse)
    assert len(ovis(tree)) == 6


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder; OVIS"):
        ovis(tmp_path / "nowhere")
    tree = ovis_tree(tmp_path / "tree")
    with pytest.raises(DataError, match=r"annotations_valid\.json: no such annotations; .* holds annotations_train\."):
        ovis(tree, split="valid")
    with pytest.raises(DataError, match=r"tree/valid: no such folder of frames; .* holds train$"):
        ovis(tree, split="valid", annotations="annotations_train.json")
    (tree / "train/clip02/img_0000004.jpg").unlink()
    with pytest.raises(DataError, match=r"clip02/img_0000004\.jpg: missing, frame 3 of video clip02 .*4 of 5 frames"):
        ovis(tree)
    # Frames of unlisted videos are not checked.
    assert len(ovis(tree, without=["clip02"])) == 4


def test_the_config_trains_on_videos_that_it_does_not_test(tmp_path: Path) -> None:
    ovis_tree(tmp_path / "OVIS", content(6))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        places = [f"paths.data={tmp_path}", "data.train.held_out=2"]
        data = instantiate(compose("train", ["data=ovis", "seed=1", *places]).data)
        assert data.test() == instantiate(compose("evaluate", ["data=ovis", "seed=2", *places]).data).test()
    trained, tested = names(data.train()), names(data.test())
    assert (len(trained), len(tested)) == (4, 4)
    assert not set(trained) & {name.partition("_")[0] for name in tested}
    assert data.val() == data.test()


def test_the_score_of_copying_the_first_mask_agrees_with_a_computation_by_hand(tmp_path: Path) -> None:
    listed = ovis(ovis_tree(tmp_path, content(2, frames=6)))
    module = EvaluationModule(lambda one: segment_video(CopyFirst(), Settings(), one))
    for index, sequence in enumerate(listed):
        module.evaluate_item(EvaluationItem(index, sequence))
    # An 8 x 8 square that has moved by 2 t pixels, t = 1 … 5; gone in frame 2 where the copy stays: 0.
    moved = [max(0, 8 - 2 * t) * 8 / (128 - max(0, 8 - 2 * t) * 8) for t in range(1, 6)]
    gone = [0 if t == 2 else j for t, j in enumerate(moved, 1)]
    assert module.conclude()["J-Mean"] == pytest.approx((np.mean(moved) + np.mean(gone)) / 2)
    assert [row.frames for row in module.table.objects] == [5] * 4
    last = replace(listed[0], scores_last=False)
    module.reset_metrics()
    module.evaluate_item(EvaluationItem(0, last))
    assert module.conclude()["J-Mean"] == pytest.approx(np.mean(gone[:-1]))
