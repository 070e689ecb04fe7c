"""Tests of claims: paired differences against the noise of sequences and seeds, and ratios of costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from voslab.core import ConfigError, DataError
from voslab.reporting.claims import judge, judge_cost
from voslab.reporting.page import page
from voslab.reporting.study_files import read_study

STUDY = """
title: Claims
question: Do they hold?
columns: [J&F-Mean]
rows:
  with: {label: with, records: [a, other/b]}
  without: {label: without, records: [c]}
claims:
  it: {text: It helps, better: with, worse: without, caveat: small}
"""
WITHOUT = {"dog": 0.5, "cow": 0.6, "car": 0.7, "bus": 0.4}


def save(
    path: Path, metrics: Mapping[str, float | None], rows: Sequence[object] | None = None, cpu: str = "A CPU"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "command": ["python", "-m", "src.evaluate"],
        "commit": "0123456789",
        "hardware": {"cpu": cpu, "cores": 2, "threads": 2, "gpus": []},
        "data": None,
        "metrics": metrics,
        "config": {},
        "per_sequence": rows,
    }
    path.write_text(json.dumps(content))


def write(path: Path, scores: dict[str, float]) -> None:
    rows = [{"sequence": name, "object": 1, "J&F-Mean": score} for name, score in scores.items()]
    save(path, {"J&F-Mean": sum(scores.values()) / len(scores)}, rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plus = {"dog": 0.1, "cow": 0.12, "car": 0.08, "bus": -0.02}
    write(tmp_path / "claims/records/a.json", {name: WITHOUT[name] + plus[name] for name in WITHOUT})
    write(tmp_path / "other/records/b.json", {name: WITHOUT[name] + plus[name] + 0.02 for name in WITHOUT})
    write(tmp_path / "claims/records/c.json", WITHOUT)
    (tmp_path / "claims/study.yaml").write_text(STUDY)
    return tmp_path / "claims"


def test_standard_error_combines_sequences_and_seeds(folder: Path) -> None:
    study = read_study(folder)
    verdict = judge(study, study.claims["it"])
    # Gains of 11, 13, 9 and -1 points; the two seeds are 2 points apart, so their mean has an error of 1 point.
    assert verdict.difference == pytest.approx(8)
    assert verdict.standard_error == pytest.approx((116 / 3 / 4 + 1) ** 0.5)
    # Terms of the variance: 116 / 12 with three degrees of freedom, and 1 with one.
    assert verdict.degrees_of_freedom == pytest.approx((29 / 3 + 1) ** 2 / ((29 / 3) ** 2 / 3 + 1))
    assert (verdict.gains, verdict.sequences, verdict.outcome) == (3, 4, "within noise")
    text = page(study)
    assert "| It helps | 63.0 | 55.0 | +8.0 ± 3.3 | 3 of 4 | **within noise**; small |" in text
    assert "[b](../other/records/b.json)" in text


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ("better: with, worse: without", "within noise"),
        ("better: with, worse: without, margin: -5", "confirmed"),
        ("better: without, worse: with, margin: 5", "not confirmed"),
        ("better: without, worse: with, margin: -20", "confirmed"),
        ("better: with, worse: with", "within noise"),
    ],
)
def test_outcome_depends_on_direction_and_margin(folder: Path, change: str, outcome: str) -> None:
    (folder / "study.yaml").write_text(STUDY.replace("better: with, worse: without", change))
    study = read_study(folder)
    assert judge(study, study.claims["it"]).outcome == outcome


def test_noise_of_seeds_per_sequence_is_counted_once(folder: Path) -> None:
    """Two seeds with equal means: all their noise is in the spread of the gains."""
    for file, sign in ((folder / "records/a.json", 1), (folder.parent / "other/records/b.json", -1)):
        shift = dict(zip(WITHOUT, (0.05, -0.05, 0.05, -0.05), strict=True))
        write(file, {name: score + 0.1 + sign * shift[name] for name, score in WITHOUT.items()})
    study = read_study(folder)
    verdict = judge(study, study.claims["it"])
    assert verdict.difference == pytest.approx(10)
    assert verdict.standard_error == pytest.approx(0, abs=1e-6)


def test_rows_with_different_sequences_are_rejected(folder: Path) -> None:
    write(folder / "records/c.json", {"dog": 0.5})
    study = read_study(folder)
    with pytest.raises(DataError, match="rows with and without have no scores of the same single sequences"):
        judge(study, study.claims["it"])
    (folder / "study.yaml").write_text(STUDY.replace("worse: without", "worse: nothing"))
    with pytest.raises(ConfigError, match=r"claims\.it: there is no row 'nothing'"):
        read_study(folder)
    (folder / "study.yaml").write_text(STUDY.replace("other/b", "other/d"))
    with pytest.raises(ConfigError, match=r"rows\.with: there is no \.\./other/records/d\.json"):
        read_study(folder)


COSTS = """
title: Costs
question: Do they hold?
columns: [seconds]
rows:
  old: {label: old, records: [old]}
  new: {label: new, records: [new]}
costs:
  it: {text: It takes half the time, row: new, than: old, metric: seconds, at_most: 0.5, caveat: small}
"""


def measure(folder: Path, name: str, seconds: float | None, size: int, cpu: str = "A CPU") -> None:
    save(folder / f"records/{name}.json", {"seconds": seconds, "memory_bytes": size}, cpu=cpu)


@pytest.fixture
def costs(tmp_path: Path) -> Path:
    measure(tmp_path, "old", 2.0, 1_000)
    measure(tmp_path, "new", 0.9, 501)
    (tmp_path / "study.yaml").write_text(COSTS)
    return tmp_path


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [(0.9, "confirmed"), (0.96, "within noise"), (1.04, "within noise"), (1.1, "not confirmed")],
)
def test_times_are_compared_with_the_claimed_ratio_within_their_noise(
    costs: Path, seconds: float, outcome: str
) -> None:
    measure(costs, "new", seconds, 501)
    study = read_study(costs)
    assert judge_cost(study, study.costs["it"]) == (pytest.approx(seconds / 2), outcome)
    line = f"| It takes half the time | seconds a frame | {seconds:.2f} | 2.00 | {seconds / 2:.2f} | ≤ 0.50 |"
    assert f"{line} **{outcome}**; small |" in page(study)


def test_sizes_are_compared_exactly(costs: Path) -> None:
    (costs / "study.yaml").write_text(COSTS.replace("metric: seconds", "metric: memory_bytes"))
    study = read_study(costs)
    assert judge_cost(study, study.costs["it"]) == (0.501, "not confirmed")
    measure(costs, "new", 0.9, 500)
    study = read_study(costs)
    assert judge_cost(study, study.costs["it"]) == (0.5, "confirmed")


def test_speeds_are_claimed_to_be_at_least_so_many_times_as_high(costs: Path) -> None:
    for ratio, outcome in ((1.8, "confirmed"), (2.2, "within noise"), (2.5, "not confirmed")):
        (costs / "study.yaml").write_text(
            COSTS.replace("row: new, than: old", "row: old, than: new").replace("at_most: 0.5", f"at_least: {ratio}")
        )
        study = read_study(costs)
        assert judge_cost(study, study.costs["it"]) == (pytest.approx(2 / 0.9), outcome)
        assert f"| 2.22 | ≥ {ratio:.2f} | **{outcome}**" in page(study)
    (costs / "study.yaml").write_text(COSTS.replace("at_most: 0.5, ", ""))
    with pytest.raises(ConfigError, match=r"costs\.it: give one of at_most and at_least, above 0"):
        read_study(costs)


def test_costs_that_cannot_be_compared_are_rejected(costs: Path) -> None:
    measure(costs, "new", 0.9, 501, cpu="Another CPU")
    study = read_study(costs)
    with pytest.raises(DataError, match="rows new and old were measured on different hardware"):
        judge_cost(study, study.costs["it"])
    measure(costs, "new", None, 501)
    study = read_study(costs)
    with pytest.raises(DataError, match="rows new and old have no 'seconds' to compare"):
        judge_cost(study, study.costs["it"])
    (costs / "study.yaml").write_text(COSTS.replace("than: old", "than: nothing"))
    with pytest.raises(ConfigError, match=r"costs\.it: there is no row 'nothing'"):
        read_study(costs)
