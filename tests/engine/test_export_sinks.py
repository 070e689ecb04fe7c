from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as official
from pycocotools.coco import COCO

from voslab.core import ConfigError
from voslab.engine import Prediction, consume
from voslab.engine.export_sinks import CocoSink, alpha_sink, green_screen, rgba_sink, soft_alpha
from voslab.video import read_masks

SIZE = 6, 8


def soft_prediction(index: int = 0) -> Prediction:
    """Objects 3 and 255 with soft edges."""
    probabilities = np.zeros((2, *SIZE), np.float32)
    probabilities[0, 1:4, 1:4], probabilities[0, 2, 2] = 0.6, 1
    probabilities[1, 3:5, 3:6] = 0.3
    ids = np.where(probabilities[0] > 0.5, 3, np.where(probabilities[1] > 0.25, 255, 0))
    image = np.full((*SIZE, 3), (200, 40, 100), np.uint8)
    return Prediction(index, image, ids, 0.0, True, probabilities, (3, 255))


def test_alpha_is_one_minus_the_probability_of_the_background() -> None:
    alpha = soft_alpha(soft_prediction())
    assert alpha.dtype == np.uint8
    assert (alpha[0, 0], alpha[1, 1], alpha[2, 2], alpha[4, 4]) == (0, 153, 255, 76)
    assert alpha[3, 3] == 230, "both objects count"


def test_a_frame_without_objects_is_transparent() -> None:
    empty = Prediction(
        0, np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.int64), 0.0, True, np.zeros((0, *SIZE), np.float32)
    )
    assert not soft_alpha(empty).any()


def test_rgba_and_alpha_keep_image_and_soft_edge(tmp_path: Path) -> None:
    consume([soft_prediction(7)], [rgba_sink(tmp_path / "rgba"), alpha_sink(tmp_path / "alpha", {7: "frame_8"})])
    rgba, alpha = Image.open(tmp_path / "rgba" / "00007.png"), Image.open(tmp_path / "alpha" / "frame_8.png")
    assert (rgba.mode, alpha.mode) == ("RGBA", "L")
    assert np.array_equal(np.asarray(rgba)[..., :3], soft_prediction().image)
    assert np.array_equal(np.asarray(rgba)[..., 3], soft_alpha(soft_prediction()))
    assert np.array_equal(np.asarray(alpha), soft_alpha(soft_prediction()))


def test_green_screen_blends_by_alpha() -> None:
    drawn = green_screen(soft_prediction())
    assert drawn[0, 0].tolist() == [0, 255, 0]
    assert drawn[2, 2].tolist() == [200, 40, 100]
    assert drawn[1, 1].tolist() == [120, 126, 60]


def test_soft_masks_without_probabilities_name_the_argument() -> None:
    plain = Prediction(0, np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.int64), 0.0)
    with pytest.raises(ConfigError, match="probabilities=True"):
        soft_alpha(plain)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of the decoder of pycocotools
def test_pycocotools_reads_the_annotations_and_agrees_on_areas_and_boxes(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    predictions = [soft_prediction(0), soft_prediction(1)]
    consume(predictions, [CocoSink(path, SIZE, {0: "a.jpg", 1: "b.jpg"})])
    coco = COCO(str(path))
    assert [coco.imgs[image]["file_name"] for image in sorted(coco.imgs)] == ["a.jpg", "b.jpg"]
    assert sorted(coco.cats) == [3, 255]
    assert len(coco.anns) == 4
    for annotation in coco.anns.values():
        mask = predictions[annotation["image_id"] - 1].ids == annotation["category_id"]
        assert np.array_equal(coco.annToMask(annotation), mask)
        encoded = coco.annToRLE(annotation)
        assert official.area(encoded) == annotation["area"] == mask.sum()
        assert official.toBbox(encoded).tolist() == annotation["bbox"]


def test_annotations_come_back_as_given_masks(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    consume([soft_prediction(0), soft_prediction(1)], [CocoSink(path, SIZE)])
    masks = read_masks(path, 2)
    assert sorted(masks) == [0, 1]
    assert np.array_equal(masks[1], soft_prediction().ids)


@pytest.mark.parametrize(("error", "written"), [(RuntimeError, False), (KeyboardInterrupt, True)])
def test_annotations_are_complete_or_absent(error: type[BaseException], written: bool, tmp_path: Path) -> None:
    def stopped() -> Iterator[Prediction]:
        yield soft_prediction(0)
        raise error

    with pytest.raises(error):
        consume(stopped(), [CocoSink(tmp_path / "annotations.json", SIZE)])
    assert (tmp_path / "annotations.json").exists() == written
    if written:
        assert len(json.loads((tmp_path / "annotations.json").read_text())["images"]) == 1
