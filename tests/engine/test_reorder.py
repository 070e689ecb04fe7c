from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from voslab.core import RawFrame, WriteError
from voslab.engine import Prediction
from voslab.engine.reorder import PresentationOrder

IMAGES = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)


class Kept:
    """Sink that keeps what it gets."""

    def __init__(self) -> None:
        self.predictions: list[Prediction] = []
        self.opened = False

    def __enter__(self) -> Kept:
        self.opened = True
        return self

    def __exit__(self, *_: object) -> None: ...

    def put(self, prediction: Prediction) -> None:
        self.predictions.append(prediction)


def images(start: int, stop: int) -> Iterator[RawFrame]:
    return (RawFrame(index, IMAGES[index]) for index in range(start, stop))


def prediction(index: int, soft: bool = False) -> Prediction:
    ids = np.full((4, 5), 70000 * (index % 2), np.int64)
    soft_masks = np.random.default_rng(index).random((2, 4, 5), np.float32) / 2 if soft else None
    return Prediction(index, IMAGES[index], ids, 0.1, True, soft_masks, (3, 70000) if soft else ())


@pytest.mark.parametrize("soft", [False, True])
def test_sinks_get_predictions_in_presentation_order(tmp_path: Path, soft: bool) -> None:
    kept, order = Kept(), [4, 5, 3, 1]
    with PresentationOrder([kept], tmp_path, images) as sink:
        for index in order:
            sink.put(prediction(index, soft))
        assert not kept.opened
    assert [one.index for one in kept.predictions] == sorted(order)
    for one in kept.predictions:
        expected = prediction(one.index, soft)
        assert np.array_equal(one.image, expected.image)
        assert np.array_equal(one.ids, expected.ids)
        assert one.ids.dtype == np.int64
        assert one.object_ids == expected.object_ids
        if expected.probabilities is not None:
            assert one.probabilities is not None
            assert np.abs(one.probabilities - expected.probabilities).max() < 1e-5
    assert list(tmp_path.iterdir()) == []


def put(sink: PresentationOrder, indices: list[int], error: BaseException | None = None) -> None:
    with sink:
        for index in indices:
            sink.put(prediction(index))
        if error is not None:
            raise error


@pytest.mark.parametrize(("error", "count"), [(ValueError(), 0), (KeyboardInterrupt(), 2)])
def test_an_interrupt_keeps_the_predictions_so_far(tmp_path: Path, error: BaseException, count: int) -> None:
    kept = Kept()
    with pytest.raises(type(error)):
        put(PresentationOrder([kept], tmp_path, images), [5, 4], error)
    assert [one.index for one in kept.predictions] == [4, 5][:count]
    assert list(tmp_path.iterdir()) == []


def test_after_an_interrupt_the_time_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voslab.engine.reorder._SECONDS_AFTER_INTERRUPT", -1.0)
    kept = Kept()
    with pytest.raises(SystemExit):
        put(PresentationOrder([kept], tmp_path, images), [5, 4, 3], SystemExit(143))
    assert [one.index for one in kept.predictions] == [3]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written") as error:
        put(PresentationOrder([Kept()], tmp_path / "file", images), [0])
    assert "\n" not in str(error.value)
