from __future__ import annotations

import numpy as np
import pytest

from benchmarks.calibration import best_temperature, logit_counts


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_temperature_of_overconfident_probabilities_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (400, 400))
    truth = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    stated = (1 / (1 + np.exp(-temperature * logits))).astype(np.float32)
    counts = logit_counts(stated, truth)
    assert counts.sum() == logits.size
    assert best_temperature(counts) == pytest.approx(temperature, rel=0.03)
