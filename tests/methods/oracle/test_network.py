from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.core.test_contract import frames, probs
from voslab.core import CheckpointError, ConfigError, DataError, Frame, Masks
from voslab.data import EvaluationItem, VideoSequence
from voslab.data.sources.davis import davis
from voslab.data.sources.synthetic.generated import generate
from voslab.engine import Settings, run
from voslab.engine.codec_source import CodecSource
from voslab.methods.builder import ModelSpec, build_model
from voslab.methods.covos.network import CoVOS
from voslab.methods.oracle.network import Oracle
from voslab.training.evaluation import EvaluationModule, segment_video
from voslab.video.encode import Encoding

WEIGHTS = Path(__file__).resolve().parents[3] / "weights"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> VideoSequence:
    root = generate(tmp_path_factory.mktemp("generated"), train=1, val=1, frames=9, size=(48, 64), objects=(2, 2))
    return davis(root, 2017, "val")[0]


@pytest.mark.parametrize("stride", [1, 40])
def test_the_oracle_returns_the_true_masks(video: VideoSequence, stride: int) -> None:
    oracle = Oracle()
    oracle.stride = stride
    for prediction in segment_video(oracle, Settings(), video):
        assert np.array_equal(prediction.ids, video.labels(prediction.index))


def test_a_wrapper_gets_true_masks_on_key_frames_only(video: VideoSequence, tmp_path: Path) -> None:
    network = CoVOS(Oracle(), refine=False, correction=False)
    source = CodecSource(tmp_path, Encoding(bframes=2, b_adapt=0))
    true, keys = {}, 0
    for prediction in segment_video(network, Settings(), video, source):
        keys += prediction.key
        true[prediction.key] = np.array_equal(prediction.ids, video.labels(prediction.index))
    assert true == {True: True, False: False}
    module = EvaluationModule(partial(segment_video, network, Settings(), codec_source=source), coded=True)
    module.evaluate_item(EvaluationItem(0, video))
    results = module.conclude()
    assert 0.3 < results["J&F-Mean"] < 1
    assert results["key_frames"] == pytest.approx(keys / len(video))
    assert 0 < keys < len(video)


def test_without_truth_a_single_line_says_where_it_works(video: VideoSequence) -> None:
    images = [video.image(index) for index in range(len(video))]
    given = video.given_masks()
    for segmenter in (Oracle(), CoVOS(Oracle(), refine=False, correction=False)):
        with pytest.raises(ConfigError, match=r"^the oracle copies the true masks .* src\.evaluate only$"):
            next(run(segmenter, images, given))
    with pytest.raises(DataError, match=r"^frame 2 has no true mask, which the oracle needs on every key frame$"):
        list(run(Oracle(), images, given, truth=lambda index: None if index == 2 else video.labels(index)))
    first, second = frames(2)
    state = Oracle().begin(first, probs(1))
    with pytest.raises(DataError, match="frame 1: the oracle needs"):
        Oracle().step(second, state)


def test_objects_that_come_later_and_slots_out_of_use() -> None:
    first, second = frames(2)
    oracle = Oracle()
    truth = probs(3)
    state = oracle.begin(first, Masks(truth.probs[:, :2], truth.slot_mask[:, :2]))
    shown = Frame(1, second.image, truth=truth)
    logits, state = oracle.step(shown, state)
    assert torch.equal(logits.argmax(1) == 2, truth.probs[:, 1] > 0)
    known = Masks(truth.probs[:, :2], torch.tensor([[True, False]]))
    state = oracle.add(shown, Masks(truth.probs[:, 2:], truth.slot_mask[:, 2:]), state, known)
    logits, _ = oracle.step(shown, state)
    assert set(logits.argmax(1).unique().tolist()) == {0, 1, 3}


def test_a_checkpoint_of_the_wrapper_does_not_replace_the_oracle() -> None:
    spec = {"model": "covos", "network": {"base": {"name": "oracle", "network": {}}}}
    weights = WEIGHTS / "scratch_covos.safetensors"
    if not weights.is_file():
        pytest.skip(f"{weights} is missing")
    model = build_model(ModelSpec(**spec, weights=weights))  # type: ignore[arg-type]
    assert isinstance(model.segmenter.base, Oracle)
    assert model.segmenter.get_parameter("decoder.predict.bias").std() > 0, "trained"
    with pytest.raises((ConfigError, CheckpointError), match="the base 'oracle' has no weights"):
        build_model(ModelSpec(**spec, base_weights=weights))  # type: ignore[arg-type]
