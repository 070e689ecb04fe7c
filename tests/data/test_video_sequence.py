from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tree import image, labels, save_image, save_mask, video
from voslab.core import VOID, DataError
from voslab.data import EvaluationItem, VideoSequence
from voslab.video.mask_formats.rle import Runs, pack


@pytest.mark.parametrize("mode", ["P", "L", "LA", "RGB"])
def test_labels_come_out_of_every_kind_of_mask(tmp_path: Path, mode: str) -> None:
    sequence = video(tmp_path / "cow")
    save_mask(tmp_path / "cow/masks/00003.png", labels(3), mode)
    read = sequence.labels(3)
    assert read is not None
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, labels(3))
    np.testing.assert_array_equal(sequence.image(3), image(3))


def test_merging_makes_all_ids_one(tmp_path: Path) -> None:
    read = video(tmp_path / "cow", ids=(2, 255), merge=True).labels(0)
    np.testing.assert_array_equal(read, labels(0, ids=(2, 255)) > 0)


def test_white_alone_is_object_one_but_beside_others_it_is_itself(tmp_path: Path) -> None:
    np.testing.assert_array_equal(video(tmp_path / "a", ids=(255,)).labels(0), labels(0, ids=(1,)))
    np.testing.assert_array_equal(video(tmp_path / "b", ids=(3, 255)).labels(0), labels(0, ids=(3, 255)))


def test_white_is_itself_in_all_masks_where_one_has_another_id(tmp_path: Path) -> None:
    sequence = video(tmp_path / "a", ids=(3, 255))
    alone = np.where(labels(1, ids=(3, 255)) == 255, 255, 0).astype(np.uint8)
    assert isinstance(sequence.masks[1], Path)
    save_mask(sequence.masks[1], alone, "P")
    np.testing.assert_array_equal(sequence.labels(1), alone)


def test_declared_void_is_kept_for_scoring_and_not_given(tmp_path: Path) -> None:
    white = video(tmp_path / "a", ids=(3, 255), void=255)
    np.testing.assert_array_equal(white.labels(0), labels(0, ids=(3, VOID)))
    np.testing.assert_array_equal(white.given_masks()[0], labels(0, ids=(3, 0)))
    only = video(tmp_path / "b", ids=(255,), void=255)
    np.testing.assert_array_equal(only.labels(0), labels(0, ids=(VOID,)))
    other = video(tmp_path / "c", ids=(7, 2), void=7, merge=True)
    np.testing.assert_array_equal(other.labels(0), labels(0, ids=(VOID, 1)))


def test_an_object_may_not_hide_as_void(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"00000\.png: id 255"):
        video(tmp_path / "a", ids=(7, 255), void=7).labels(0)


def test_empty_masks_are_masks(tmp_path: Path) -> None:
    sequence = video(tmp_path / "cow", ids=())
    assert sequence.labels(0) is not None
    assert sequence.given_masks()[0].max() == 0


def test_frames_without_annotation(tmp_path: Path) -> None:
    sequence = video(tmp_path / "cow")
    sequence = replace(sequence, masks=(None, *sequence.masks[1:]))
    assert sequence.labels(0) is None
    with pytest.raises(DataError, match=r"sequence cow: its first frame .*00000\.png has no mask"):
        sequence.given_masks()


def test_different_sizes_are_reported(tmp_path: Path) -> None:
    sequence = video(tmp_path / "cow")
    save_mask(tmp_path / "cow/masks/00002.png", labels(2, size=(24, 44)))
    with pytest.raises(DataError, match=r"masks/00002\.png: the mask is 44 x 24 pixels, its image .* is 40 x 24"):
        sequence.labels(2)


def test_a_turned_photograph_has_the_size_of_its_upright_image(tmp_path: Path) -> None:
    sequence = video(tmp_path / "cow")
    path = sequence.images[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image(0, size=(40, 24))).save(path, exif=exif)
    assert sequence.image(0).shape == (24, 40, 3)
    assert sequence.labels(0) is not None


def test_missing_and_damaged_files_are_reported(tmp_path: Path) -> None:
    sequence = video(tmp_path / "cow")
    sequence.images[1].unlink()
    sequence.images[2].write_bytes(b"\x89PNG\r\n\x1a\nno image")
    (tmp_path / "cow/masks/00003.png").write_bytes(sequence.images[3].read_bytes()[:40])
    for read, index, name in (
        (sequence.image, 1, "cow/00001.png"),
        (sequence.labels, 1, "cow/00001.png"),
        (sequence.image, 2, "cow/00002.png"),
        (sequence.labels, 2, "cow/00002.png"),
        (sequence.labels, 3, "masks/00003.png"),
    ):
        with pytest.raises(DataError, match=name) as error:
            read(index)
        assert "\n" not in str(error.value)


def test_sequences_are_never_empty_or_uneven(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sequence cow: no frames"):
        VideoSequence("cow", (), ())
    with pytest.raises(DataError, match="sequence cow: 2 frames but 1 mask entries"):
        VideoSequence("cow", (tmp_path, tmp_path), (None,))


def test_sequences_travel_to_workers_and_items_need_no_device(tmp_path: Path) -> None:
    sequence = video(tmp_path / "cow")
    assert pickle.loads(pickle.dumps(sequence)) == sequence
    item = EvaluationItem(3, sequence)
    assert item.to("cpu") is item


def test_jpeg_frames(tmp_path: Path) -> None:
    save_image(tmp_path / "0.jpg", image(0))
    assert VideoSequence("one", (tmp_path / "0.jpg",), (None,)).image(0).shape == (24, 40, 3)


def test_later_objects_are_given_alone_in_their_first_frame(tmp_path: Path) -> None:
    sequence = video(tmp_path / "cow", ids=(1, 2, 3), starts={1: 0, 2: 0, 3: 4})
    given = sequence.given_masks()
    assert list(given) == [0, 4]
    np.testing.assert_array_equal(given[0], labels(0, ids=(1, 2, 0)))
    np.testing.assert_array_equal(given[4], labels(4, ids=(0, 0, 3)))
    with pytest.raises(DataError, match="cow: frame 4"):
        replace(sequence, masks=(*sequence.masks[:4], None, None)).given_masks()


def test_runs_are_masks(tmp_path: Path) -> None:
    sequence = video(tmp_path / "cow")
    square = pack([[2, 4, 10, 4, 10, 12, 2, 12]], (24, 40), "here")
    read = replace(sequence, masks=(Runs((24, 40), ((9, square),), "here"), *sequence.masks[1:])).labels(0)
    np.testing.assert_array_equal(read, labels(0, ids=(9,)))


def test_scaling_up_keeps_ids_and_proportions(tmp_path: Path) -> None:
    sequence = replace(video(tmp_path / "cow", ids=(1, 200)), height=72)
    assert sequence.image(0).shape == (72, 120, 3)
    read = sequence.labels(0)
    assert read is not None
    np.testing.assert_array_equal(read, np.kron(labels(0, ids=(1, 200)), np.ones((3, 3), int)))
