"""Our own decoder on a real video: it treats all objects alike, though its data have one a video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voslab.data.sources.davis import davis
from voslab.engine import Settings, run
from voslab.methods.builder import from_checkpoint

ROOT = Path(__file__).resolve().parents[3]
FRAMES = 13


@pytest.mark.slow
@pytest.mark.parametrize("name", ["camel", "dance-twirl"])
def test_second_object_is_tracked_like_the_first(name: str, vos_data: Path, tmp_path: Path) -> None:
    [video] = davis(vos_data / "DAVIS", 2016, "val", only=[name])
    model = from_checkpoint(ROOT / "weights/scratch_covos.safetensors", tmp_path)
    assert model.codec_source is not None
    first = video.labels(0)
    assert first is not None
    rows = np.flatnonzero(first.any(1))
    lower = first * (np.arange(len(first)) > rows.mean())[:, None]
    scores = {}
    for label, given in (("one", first), ("two", first + lower), ("swapped", np.where(first, 2 - lower, 0))):
        predictions = run(
            model.segmenter, model.codec_source.frames(video.images[:FRAMES]), {0: given}, Settings(size=240)
        )
        union = {prediction.index: prediction.ids > 0 for prediction in predictions if not prediction.key}
        assert len(union) >= FRAMES // 3
        truths = {index: video.labels(index) for index in union}
        scores[label] = np.mean(
            [
                (ids & (truth > 0)).sum() / (ids | (truth > 0)).sum()
                for (index, ids) in union.items()
                if (truth := truths[index]) is not None
            ]
        )
    # With the first slot alone trained, the second object took half of the image: 0.2 and less.
    assert scores["two"] > scores["one"] - 0.1, scores
    assert scores["swapped"] > scores["one"] - 0.1, scores
