"""Computes the scores of the YouTube-VOS protocol: J and F of seen and unseen categories, and their mean G."""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

from voslab.metrics.davis import ScoreTable


def youtube_vos_score(table: ScoreTable, unseen: Sequence[Set[int]]) -> dict[str, float]:
    """Compute mean J and F of the objects of seen and of unseen categories, and G, the mean of the four.

    All objects have equal weight, however many frames they are visible in. An object is scored in the frames after the
    one in which its mask is given.

    Args:
        table: scores of all objects.
        unseen: for each sequence, by its number in the table, the ids of its objects of unseen categories.

    Returns:
        `G-Mean`, `J-Seen`, `J-Unseen`, `F-Seen` and `F-Unseen`. Scores of a group without objects are NaN, and so is G.

    Example:
        >>> import numpy as np
        >>> from voslab.metrics import davis_score, youtube_vos_score
        >>> table = davis_score(np.array([[0, 1, 1, 0.8, 0.6], [0, 2, 1, 0.4, 0.2]]))
        >>> {key: round(value, 2) for key, value in youtube_vos_score(table, [{2}]).items()}
        {'G-Mean': 0.5, 'J-Seen': 0.8, 'J-Unseen': 0.4, 'F-Seen': 0.6, 'F-Unseen': 0.2}
    """
    by_group: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for row in table.objects:
        by_group[row.object in unseen[row.sequence]].append((row.region.mean, row.boundary.mean))
    (j_seen, f_seen), (j_unseen, f_unseen) = (
        np.mean(scores, axis=0).tolist() if scores else (float("nan"), float("nan")) for scores in by_group
    )
    return {
        "G-Mean": (j_seen + j_unseen + f_seen + f_unseen) / 4,
        "J-Seen": j_seen,
        "J-Unseen": j_unseen,
        "F-Seen": f_seen,
        "F-Unseen": f_unseen,
    }
