"""The YouTube-VOS protocol: J and F apart for seen and unseen categories, and their mean G."""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

from voslab.metrics.davis import ScoreTable


def youtube_vos_score(table: ScoreTable, unseen: Sequence[Set[int]]) -> dict[str, float]:
    """Means over the objects of seen and of unseen categories, and G, the mean of the four.

    Objects count alike, however long they are there; each by its frames after the one in which it was given.

    Args:
        table: scores of every object.
        unseen: for each sequence, by its number in the table, the ids of its objects of unseen categories.

    Returns:
        `G-Mean`, `J-Seen`, `J-Unseen`, `F-Seen`, `F-Unseen`; NaN where there are no such objects, and G with it.
    """
    apart: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for row in table.objects:
        apart[row.object in unseen[row.sequence]].append((row.region.mean, row.boundary.mean))
    (j_seen, f_seen), (j_unseen, f_unseen) = (
        np.mean(scores, axis=0).tolist() if scores else (float("nan"), float("nan")) for scores in apart
    )
    return {
        "G-Mean": (j_seen + j_unseen + f_seen + f_unseen) / 4,
        "J-Seen": j_seen,
        "J-Unseen": j_unseen,
        "F-Seen": f_seen,
        "F-Unseen": f_unseen,
    }
