"""The ruler: region similarity J, boundary accuracy F, and the statistics of the DAVIS protocol over them."""

from src.metrics.boundary import boundary_f, boundary_map
from src.metrics.davis import (
    DAVISScore,
    ObjectScore,
    ScoreTable,
    Statistics,
    davis_score,
    score_frame,
    scored_frames,
    statistics,
)
from src.metrics.region import jaccard

__all__ = [
    "DAVISScore",
    "ObjectScore",
    "ScoreTable",
    "Statistics",
    "boundary_f",
    "boundary_map",
    "davis_score",
    "jaccard",
    "score_frame",
    "scored_frames",
    "statistics",
]
