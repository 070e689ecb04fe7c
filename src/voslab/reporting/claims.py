"""Whether a paper's claim holds here: sequence by sequence, against the noise of sequences and seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from voslab.core import DataError
from voslab.reporting.records import sequence_table, summarise
from voslab.reporting.study import Claim, Study

Word = Literal["confirmed", "not confirmed", "within noise"]
SURE = 0.975
"""Quantile of the t distribution beyond which a difference, less its margin, is more than noise."""
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What two rows say of a claim.

    Attributes:
        difference: of J&F, better less worse, in points; a mean over sequences, and over each row's seeds.
        error: its standard error, over sequences and, where rows have several, over seeds;
        freedom: the error's degrees of freedom (Satterthwaite).
        gains: sequences on which the better row is better,
        sequences: of so many.
        word: what that makes of the claim.
    """

    difference: float
    error: float
    freedom: float
    gains: int
    sequences: int
    word: Word


def judge(study: Study, claim: Claim) -> Verdict:
    """Compare two rows, sequence by sequence.

    Raises:
        DataError: a row has no scores of single sequences, or the two were measured on different ones.
    """
    (names, better), (others, worse) = (sequence_table(study.runs(row)) for row in (claim.better, claim.worse))
    if not names or names != others:
        raise DataError(
            f"{study.folder}: rows {claim.better} and {claim.worse} have no scores of the same single sequences"
        )
    better, worse = 100 * better, 100 * worse
    gains = better.mean(0) - worse.mean(0)
    count = len(gains)
    # Each with its degrees of freedom.
    parts = [(gains.var(ddof=1) / count if count > 1 else math.inf, count - 1)]
    parts += [(_of_seeds(row), len(row) - 1) for row in (better, worse) if len(row) > 1]
    variance = sum(part for part, _ in parts)
    spread = sum(part**2 / freedom for part, freedom in parts if 0 < part < math.inf)
    freedom = variance**2 / spread if spread else float(max(1, count - 1))
    difference, error = float(gains.mean()), math.sqrt(variance)
    beyond = difference - claim.margin
    sure = abs(beyond) > stdtrit(freedom, SURE) * error
    word: Word = "confirmed" if beyond > 0 else "not confirmed"
    return Verdict(difference, error, freedom, int((gains > 0).sum()), count, word if sure else "within noise")


def claims_table(study: Study) -> str:
    """Markdown: a line per claim."""
    lines = [
        "| claim | with | without | difference | sequences that gain | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for claim in study.claims.values():
        found = judge(study, claim)
        with_, without = (100 * summarise(study.runs(row), "J&F-Mean").mean for row in (claim.better, claim.worse))
        scores = f"{with_:.1f} | {without:.1f} | {found.difference:+.1f} ± {found.error:.1f}"
        word = f"**{found.word}**" + (f"; {claim.caveat}" if claim.caveat else "")
        lines.append(f"| {claim.text} | {scores} | {found.gains} of {found.sequences} | {word} |")
    return "\n".join(lines)


def _of_seeds(scores: Scores) -> float:
    """What seeds add to the variance of a row's mean, scores R S, beyond what sequences show of it already."""
    runs, sequences = scores.shape
    left = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    noise = float((left**2).sum()) / max(1, (runs - 1) * (sequences - 1))
    beyond = float(scores.mean(1).var(ddof=1)) - noise / sequences
    return float(max(0.0, beyond) / runs)
