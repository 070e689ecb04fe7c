from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from voslab.core import ConfigError, DataError
from voslab.studio.proposer import Click, Prompt
from voslab.studio.segment_anything import SegmentAnything

SIZE = (300, 600)
INPUTS = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size")


class Session:
    """Stands in for a session of onnxruntime: records what it is given."""

    def __init__(self, inputs: dict[str, int], outputs: dict[str, NDArray[Any]]) -> None:
        self.calls: list[dict[str, Any]] = []
        self._inputs, self._outputs = inputs, outputs

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name=name, shape=[1] * rank) for name, rank in self._inputs.items()]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self._outputs]

    def run(self, names: None, feed: dict[str, Any]) -> list[NDArray[Any]]:
        self.calls.append(feed)
        return list(self._outputs.values())


def sessions() -> tuple[Session, Session]:
    masks = np.full((1, 3, *SIZE), -1.0, np.float32)
    masks[0, 1, 50:100, 200:400] = 1
    outputs = {"masks": masks, "iou_predictions": np.array([[0.2, 0.9, 0.5]]), "low_res_masks": np.zeros(1)}
    return Session({"image": 4}, {"embedding": np.ones((1, 256, 64, 64))}), Session(dict.fromkeys(INPUTS, 2), outputs)


def image(value: int = 124) -> NDArray[np.uint8]:
    return np.full((*SIZE, 3), value, np.uint8)


def test_the_mask_with_the_highest_predicted_iou_is_taken() -> None:
    mask = SegmentAnything(*sessions()).propose(image(), Prompt([Click(300, 75)]))
    assert mask.dtype == bool
    assert mask[50:100, 200:400].all()
    assert mask.sum() == 50 * 200


def test_the_image_is_scaled_normalised_and_padded_once() -> None:
    encoder, decoder = sessions()
    proposer = SegmentAnything(encoder, decoder)
    for clicks in ([Click(1, 1)], [Click(1, 1), Click(5, 5, False)]):
        proposer.propose(image(), Prompt(clicks))
    [call] = encoder.calls
    assert call["image"].shape == (1, 3, 1024, 1024)
    np.testing.assert_allclose(call["image"][0, 0, :512], (124 - 123.675) / 58.395, rtol=1e-4)
    assert not call["image"][0, :, 512:].any()
    proposer.propose(image(60), Prompt([Click(1, 1)]))
    assert len(encoder.calls) == 2


def test_prompts_are_given_in_the_scale_of_the_encoder() -> None:
    encoder, decoder = sessions()
    proposer = SegmentAnything(encoder, decoder)
    factor = 1024 / 600
    proposer.propose(image(), Prompt([Click(300, 75), Click(10, 20, False)]))
    proposer.propose(image(), Prompt([Click(300, 75)], (10, 20, 110, 220)))
    clicks, box = decoder.calls
    np.testing.assert_allclose(clicks["point_coords"][0], np.array([[300, 75], [10, 20], [0, 0]]) * factor)
    assert clicks["point_labels"].tolist() == [[1, 0, -1]]
    np.testing.assert_allclose(box["point_coords"][0], np.array([[300, 75], [10, 20], [110, 220]]) * factor)
    assert box["point_labels"].tolist() == [[1, 2, 3]]
    for call in decoder.calls:
        assert call["orig_im_size"].tolist() == list(SIZE)
        assert call["has_mask_input"].tolist() == [0]
        assert not call["mask_input"].any()


def test_the_mask_that_is_corrected_is_given_as_logits() -> None:
    encoder, decoder = sessions()
    mask = np.zeros(SIZE, bool)
    mask[:150, :300] = True
    SegmentAnything(encoder, decoder).propose(image(), Prompt([Click(500, 200, False)], mask=mask))
    [call] = decoder.calls
    assert call["has_mask_input"].tolist() == [1]
    logits = call["mask_input"][0, 0]
    assert (logits[:63, :127] > 0).all()  # 300 x 600 is 128 x 256 there
    assert (logits[65:] < 0).all()
    assert (logits[:, 129:] < 0).all()


@pytest.mark.parametrize("prompt", [Prompt(), Prompt([Click(9, 9, False)]), Prompt([Click(-5, 9)])])
def test_a_prompt_without_an_object_is_refused(prompt: Prompt) -> None:
    with pytest.raises(DataError, match="neither a box nor a positive click"):
        SegmentAnything(*sessions()).propose(image(), prompt)


def test_other_models_are_refused(tmp_path: Path) -> None:
    encoder, decoder = sessions()
    with pytest.raises(ConfigError, match=r"proposer\.encoder: must have one input"):
        SegmentAnything(Session({"image": 3}, {}), decoder)
    with pytest.raises(ConfigError, match=r"proposer\.decoder: has no input 'mask_input'"):
        SegmentAnything(encoder, Session(dict.fromkeys([name for name in INPUTS if name != "mask_input"], 2), {}))
    with pytest.raises(ConfigError, match=r"proposer\.encoder=.*no such file"):
        SegmentAnything.load(tmp_path / "a.onnx", tmp_path / "b.onnx")
    (tmp_path / "a.onnx").write_bytes(b"no model")
    pytest.importorskip("onnxruntime")
    with pytest.raises(ConfigError, match=r"a\.onnx: no ONNX model") as caught:
        SegmentAnything.load(tmp_path / "a.onnx", tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)
