"""Tests the claims of papers: differences of J&F against the noise of sequences and seeds, and ratios of costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from voslab.core import DataError
from voslab.reporting.study import Claim, CostClaim, Study
from voslab.reporting.summary import sequence_table, summarise

Outcome = Literal["confirmed", "not confirmed", "within noise"]
QUANTILE = 0.975
"""Quantile of the t distribution beyond which a difference, less its margin, is significant."""
TIMING_NOISE = 0.05
"""Fraction to which the ratio of two times is reproduced on a quiet machine."""
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of testing a claim with two rows.

    Attributes:
        difference: J&F of the better row minus the worse one, in points; the mean over sequences and seeds.
        standard_error: standard error of the difference, over sequences and, if rows have several, over seeds.
        degrees_of_freedom: of the standard error, by Satterthwaite's approximation.
        gains: number of sequences on which the better row scores higher.
        sequences: number of sequences.
        outcome: whether the claim is confirmed.
    """

    difference: float
    standard_error: float
    degrees_of_freedom: float
    gains: int
    sequences: int
    outcome: Outcome


def judge(study: Study, claim: Claim) -> Verdict:
    """Compare the two rows of a claim, sequence by sequence.

    Raises:
        DataError: if a row has no scores per sequence, or the rows have different sequences.
    """
    (names, better), (others, worse) = (sequence_table(study.runs(row)) for row in (claim.better, claim.worse))
    if not names or names != others:
        raise DataError(
            f"{study.folder}: rows {claim.better} and {claim.worse} have no scores of the same single sequences"
        )
    better, worse = 100 * better, 100 * worse
    gains = better.mean(0) - worse.mean(0)
    count = len(gains)
    # Pairs of variance and degrees of freedom.
    terms = [(gains.var(ddof=1) / count if count > 1 else math.inf, count - 1)]
    terms += [(_seed_variance(row), len(row) - 1) for row in (better, worse) if len(row) > 1]
    variance = sum(term for term, _ in terms)
    spread = sum(term**2 / freedom for term, freedom in terms if 0 < term < math.inf)
    freedom = variance**2 / spread if spread else float(max(1, count - 1))
    difference, error = float(gains.mean()), math.sqrt(variance)
    beyond = difference - claim.margin
    significant = abs(beyond) > stdtrit(freedom, QUANTILE) * error
    outcome: Outcome = "within noise" if not significant else "confirmed" if beyond > 0 else "not confirmed"
    return Verdict(difference, error, freedom, int((gains > 0).sum()), count, outcome)


def judge_cost(study: Study, claim: CostClaim) -> tuple[float, Outcome]:
    """Compare the ratio of two rows with the claimed one. Times and speeds are subject to noise, sizes are exact.

    Returns:
        The ratio, and whether the claim is confirmed.

    Raises:
        DataError: if a run lacks the metric or its value, or the rows were measured on different hardware.
    """
    runs = [*study.runs(claim.row), *study.runs(claim.than)]
    if any(run.hardware != runs[0].hardware for run in runs):
        raise DataError(f"{study.folder}: rows {claim.row} and {claim.than} were measured on different hardware")
    cost, other = (summarise(study.runs(row), claim.metric).mean for row in (claim.row, claim.than))
    if not (math.isfinite(cost) and other > 0):
        raise DataError(f"{study.folder}: rows {claim.row} and {claim.than} have no '{claim.metric}' to compare")
    ratio = cost / other
    noise = 0.0 if claim.metric.endswith("_bytes") else TIMING_NOISE
    beyond = ratio / claim.claimed - 1
    if abs(beyond) < noise:
        return ratio, "within noise"
    return ratio, "confirmed" if beyond == 0 or (beyond > 0) == (claim.at_least is not None) else "not confirmed"


def _seed_variance(scores: Scores) -> float:
    """Return the variance that seeds add to a row's mean beyond the variance over sequences; scores R x S."""
    runs, sequences = scores.shape
    left = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    noise = float((left**2).sum()) / max(1, (runs - 1) * (sequences - 1))
    beyond = float(scores.mean(1).var(ddof=1)) - noise / sequences
    return float(max(0.0, beyond) / runs)
