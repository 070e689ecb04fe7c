"""Computes J, F, identity switches, and the scores of the DAVIS and YouTube-VOS protocols."""

from voslab.metrics.boundary import boundary_f, boundary_map
from voslab.metrics.by_size import SizeScore, score_by_size, standard_areas
from voslab.metrics.davis import (
    ObjectScore,
    ScoreTable,
    Statistics,
    davis_score,
    score_frame,
    scored_frames,
    statistics,
)
from voslab.metrics.davis_metric import DAVISScore
from voslab.metrics.identity import holders, identity_switches
from voslab.metrics.region import jaccard
from voslab.metrics.youtube_vos import youtube_vos_score

__all__ = [
    "DAVISScore",
    "ObjectScore",
    "ScoreTable",
    "SizeScore",
    "Statistics",
    "boundary_f",
    "boundary_map",
    "davis_score",
    "holders",
    "identity_switches",
    "jaccard",
    "score_by_size",
    "score_frame",
    "scored_frames",
    "standard_areas",
    "statistics",
    "youtube_vos_score",
]
