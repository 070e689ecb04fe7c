"""Directions, parts and corrections through the command line, on inputs as people hand them in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_cases import warned  # noqa: F401  (a fixture)
from tests.conftest import Run
from tests.video.clips import encode, moving_square
from voslab.predictor import Predictor, default_checkpoint
from voslab.video import open_video, read_mask, write_mask

CASES = Path(__file__).parent / "cases"
COUNT = 12
EMPTY = "frames 0 to 5 are before the first mask (frame 6) and stay empty; direction=both segments them too"
Segment = Callable[..., tuple[str, dict[str, np.ndarray]]]


@pytest.fixture
def segment(run: Run, tmp_path: Path) -> Segment:
    """Segment a video: returns the error, and the masks by name."""

    def segmented(mask: Path, *options: str, video: Path = CASES / "clip.mp4") -> tuple[str, dict[str, np.ndarray]]:
        output = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        size = () if any(option.startswith("engine.size=") for option in options) else ("engine.size=64",)
        error = run("segment", *size, f"video={video}", f"mask={mask}", f"output={output}", *options)
        return error, {path.stem: read_mask(path) for path in sorted((output / "masks").glob("*.png"))}

    return segmented


def names(*indices: int) -> list[str]:
    return [f"{index:05d}" for index in indices]


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray], *indices: int) -> list[bool]:
    return [np.array_equal(one[name], other[name]) for name in names(*indices)]


def test_a_mask_that_is_painted_anew_is_kept_and_continued(segment: Segment) -> None:
    error, corrected = segment(CASES / "corrected_at_6", "engine.size=180")
    assert not error
    _, plain = segment(CASES / "corrected_at_6/00000.png", "engine.size=180")
    given = read_mask(CASES / "corrected_at_6/00006.png")
    assert np.array_equal(corrected["00006"], given)
    assert all(same(corrected, plain, *range(6)))
    _, only = segment(CASES / "corrected_at_6", "start=6", "engine.size=180")
    overlap = [iou(corrected[name] > 0, only[name] > 0) for name in names(*range(7, COUNT))]
    assert min(overlap) > 0.8, "what follows continues from the given mask"
    assert not any(same(corrected, plain, *range(6, COUNT)))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def test_an_empty_mask_removes_the_object(segment: Segment, warned: list[str]) -> None:  # noqa: F811
    error, found = segment(CASES / "gone_at_6")
    assert not error
    assert [bool(found[name].any()) for name in names(*range(COUNT))] == [True] * 6 + [False] * 6
    object_id = int(found["00000"].max())
    assert warned == [f"frame 6: object {object_id} is not in the given mask and is removed"]


def test_one_mask_in_the_middle(segment: Segment, warned: list[str]) -> None:  # noqa: F811
    mask = CASES / "only_frame_6"
    error, forward = segment(mask)
    assert not error
    assert warned == [EMPTY]
    assert [bool(forward[name].any()) for name in names(*range(COUNT))] == [False] * 6 + [True] * 6
    warned.clear()
    _, both = segment(mask, "direction=both")
    _, backward = segment(mask, "direction=backward", "end=6")
    assert warned == []
    assert list(both) == names(*range(COUNT))
    assert all(same(both, forward, *range(6, COUNT)))
    assert all(same(both, backward, *range(7)))
    assert list(backward) == names(*range(7))
    assert all(backward[name].any() for name in backward)


def test_the_command_line_and_the_api_agree(segment: Segment) -> None:
    predictor = Predictor.load(default_checkpoint(), size=64, device="cpu")
    mask = CASES / "corrected_at_6"
    session = predictor.session(CASES / "clip.mp4")
    for index in (0, 6):
        session.set_mask(index, mask / f"{index:05d}.png")
    options = ("direction=both", "start=2", "end=8")
    _, written = segment(mask, *options)
    for predictions in (
        predictor.segment(CASES / "clip.mp4", mask, direction="both", start=2, end=8),
        session.propagate("both", 2, 8),
    ):
        found = {one.index: one.ids for one in predictions}
        assert sorted(names(*found)) == list(written) == names(*range(2, 9))
        assert all(np.array_equal(ids, written[f"{index:05d}"]) for index, ids in found.items())


@pytest.mark.parametrize("direction", ["backward", "both"])
def test_every_output_is_in_presentation_order_under_the_frames_own_names(
    run: Run, tmp_path: Path, direction: str
) -> None:
    images = moving_square(5, (48, 64))
    (tmp_path / "frames").mkdir()
    (tmp_path / "masks").mkdir()
    stems = [f"{5 * index + 1:08d}" for index in range(5)]
    for stem, image in zip(stems, images, strict=True):
        Image.fromarray(image).save(tmp_path / "frames" / f"{stem}.png")
    labels = np.zeros((48, 64), np.uint8)
    labels[8:24, 9:21] = 1
    write_mask(tmp_path / "masks" / f"{stems[3]}.png", labels)
    save = "[masks,overlay,greenscreen,alpha,coco,per_object]"
    arguments = (f"video={tmp_path / 'frames'}", f"mask={tmp_path / 'masks'}", f"save={save}", f"output={tmp_path}/out")
    assert not run("segment", "model=copy_first", *arguments, f"direction={direction}")
    out = tmp_path / "out"
    for folder in ("masks", "alpha", "per_object/1"):
        written = [path.stem for path in sorted((out / folder).iterdir())]
        # An object has no file of its own before it is known: backward, after its mask.
        assert written == (stems[:4] if folder == "per_object/1" and direction == "backward" else stems)
    coco = json.loads((out / "annotations.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [f"{stem}.png" for stem in stems]
    assert [each["id"] for each in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))
    assert len(list(open_video(out / "greenscreen.mp4"))) == 5
    beside = np.r_[0:8, 23:64]  # columns without the mask and its outline
    shown = np.stack([frame.image for frame in open_video(out / "overlay.mp4")])[:, :, beside].astype(int)
    errors = [[np.abs(one - image[:, beside]).mean() for image in images] for one in shown]
    assert np.argmin(errors, 1).tolist() == list(range(5))
    assert {path.name for path in out.glob(".*")} == {".lock"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("start=7", "end=3"), "start=7 comes after end=3"),
        (("start=12",), "start=12: the video ends with frame 11"),
        (("start=00:00:10",), "start=00:00:10: the last frame of the video is at 0.46 s"),
        (("start=soon",), "start=soon: give a frame number from 0 on, or a time such as 12.5s or 00:01:30"),
        (("end=-1",), "end=-1: give a frame number"),
        (("end=5",), "only_frame_6: no mask is given for a frame from 0 to 5, only for 6; "),
        (("direction=sideways",), "direction=sideways: choose from forward, backward, both"),
        (("direction=both", "inspect=true"), "inspect=true with direction=both: it goes with direction=forward"),
    ],
)
def test_parts_that_make_no_sense_are_refused(segment: Segment, options: tuple[str, ...], message: str) -> None:
    error, written = segment(CASES / "only_frame_6", "model=copy_first", *options)
    assert message in error
    assert written == {}


def test_a_part_may_be_given_by_times(segment: Segment) -> None:
    _, written = segment(CASES / "only_frame_6", "model=copy_first", "start=0.25s", "end=00:00:00.34")
    assert list(written) == names(6, 7, 8)


def test_times_need_time_stamps(segment: Segment, tmp_path: Path) -> None:
    Image.fromarray(moving_square(1)[0]).save(tmp_path / "0.png")
    write_mask(tmp_path / "mask" / "0.png", np.eye(48, 64, dtype=np.uint8))
    error, _ = segment(tmp_path / "mask", "model=copy_first", "start=1s", video=tmp_path)
    assert error == "start=1s: this source has no times; give a frame number"


def test_coded_video_goes_backward_with_covos(segment: Segment, tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", moving_square(9, (48, 64)), **{"x264-params": "b-adapt=0:bframes=3"})
    write_mask(tmp_path / "masks" / "8.png", np.eye(48, 64, dtype=np.uint8))
    model = ("model=covos", "model/base=copy_first", "direction=backward")
    error, written = segment(tmp_path / "masks", *model, video=clip)
    assert not error
    assert list(written) == names(*range(9))
    assert np.array_equal(written["00008"], read_mask(tmp_path / "masks" / "8.png"))
