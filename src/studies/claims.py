"""Whether a paper's claim holds here: sequence by sequence, against the noise of sequences and seeds."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Literal

from src.core import DataError
from src.studies.records import summarise
from src.studies.study import Claim, Study

Word = Literal["confirmed", "not confirmed", "within noise"]
SURE = 2.0
"""So many standard errors lie between a difference and its margin where a verdict is more than noise."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What two rows say of a claim.

    Attributes:
        difference: of J&F, better less worse, in points; a mean over sequences, and over each row's seeds.
        error: its standard error, over sequences and, where rows have several, over seeds.
        gains: sequences on which the better row is better,
        sequences: of so many.
        word: what that makes of the claim.
    """

    difference: float
    error: float
    gains: int
    sequences: int
    word: Word


def judge(study: Study, claim: Claim) -> Verdict:
    """Compare two rows on the sequences that both have.

    Raises:
        DataError: a row has no scores of single sequences, or the two were measured on different ones.
    """
    better, worse = (_sequences(study, row) for row in (claim.better, claim.worse))
    if better.keys() != worse.keys():
        raise DataError(f"{study.folder}: rows {claim.better} and {claim.worse} have different sequences")
    gains = [better[name] - worse[name] for name in sorted(better)]
    difference = sum(gains) / len(gains)
    variance = statistics.variance(gains) / len(gains) if len(gains) > 1 else math.inf
    for row in (claim.better, claim.worse):
        deviation = summarise(study.runs(row), "J&F-Mean").deviation
        variance += 0.0 if math.isnan(deviation) else (100 * deviation) ** 2 / len(study.runs(row))
    error = math.sqrt(variance)
    beyond = difference - claim.margin
    sure = abs(beyond) > SURE * error
    word: Word = "confirmed" if beyond > 0 else "not confirmed"
    return Verdict(difference, error, sum(gain > 0 for gain in gains), len(gains), word if sure else "within noise")


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


def _sequences(study: Study, row: str) -> dict[str, float]:
    """J&F of every sequence in points, mean over a row's runs."""
    runs = [run.sequences() for run in study.runs(row)]
    if not all(runs) or any(run.keys() != runs[0].keys() for run in runs):
        raise DataError(f"{study.folder}: row {row} has no scores of the same single sequences")
    return {name: 100 * sum(run[name] for run in runs) / len(runs) for name in runs[0]}
