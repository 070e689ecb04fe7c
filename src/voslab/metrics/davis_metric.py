"""Accumulates the scores of the DAVIS protocol over frames, sequences and processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from voslab.core import DataError
from voslab.metrics.davis import COLUMNS, ScoreTable, davis_score


class DAVISScore(Metric):
    """Accumulates scores of a data set as a torchmetrics metric.

    Rows [sequence, object, frame, J, F] are kept in float64 on the CPU, whatever device or dtype the model has. The
    result depends neither on the order of the rows nor on their distribution over processes. A process may have no rows
    at all, but each frame of an object must be scored by one process only.

    Example:
        >>> import numpy as np
        >>> from voslab.metrics import DAVISScore
        >>> metric = DAVISScore()
        >>> metric.update(0, [1, 2], [1], np.array([[[0.8, 0.6]], [[0.6, 0.4]]]))
        >>> metric.update(1, [1], [1], np.array([[[0.3, 0.1]]]))
        >>> round(metric.compute()["J&F-Mean"], 2)
        0.4
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    rows: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, sequence: int, frames: Sequence[int], objects: Sequence[int], scores: NDArray[np.float64]) -> None:
        """Add the scores of T frames of a sequence, preferably of the whole sequence at once.

        Small tensors that outlive a large image keep the allocator from releasing the image's memory. With one call per
        frame, memory would grow by gigabytes over a long evaluation.

        Args:
            sequence: number of the sequence in the data set, the same in all processes.
            frames: indices of T frames; must not contain frames that the protocol does not score.
            objects: ids of O objects.
            scores: J and F from `score_frame` for each frame, T x O x 2.

        Raises:
            DataError: if the scores have another shape.
        """
        if scores.shape != (len(frames), len(objects), 2):
            raise DataError(
                f"sequence {sequence}, {len(frames)} frames, {len(objects)} objects: scores of shape {scores.shape}"
            )
        rows = np.empty((len(frames), len(objects), COLUMNS), np.float64)
        rows[..., 0], rows[..., 1], rows[..., 3:] = sequence, objects, scores
        rows[..., 2] = np.asarray(frames)[:, None]
        self.rows.append(torch.from_numpy(rows.reshape(-1, COLUMNS)))

    def compute(self) -> dict[str, float]:
        """Return the seven scores of `ScoreTable.metrics`, equal in all processes; NaN without rows.

        Raises:
            DataError: if a frame of an object was scored twice.
        """
        return davis_score(self._table()).metrics()

    def score(self) -> ScoreTable:
        """Return the scores of all objects. With several processes, all of them must call this, as with `compute`.

        Raises:
            DataError: if a frame of an object was scored twice.
        """
        local = not self._is_synced
        with self.sync_context(should_sync=local and self._to_sync, should_unsync=local):
            table = self._table()
        return davis_score(table)

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any | None = None,
        should_sync: bool = True,
        distributed_available: Callable[..., Any] | None = None,
    ) -> None:
        """Gather the rows of all processes, some of which may have no rows. See `torchmetrics.Metric.sync`."""
        super().sync(dist_sync_fn or self._gather, process_group, should_sync, distributed_available)

    def _gather(self, rows: Tensor, group: Any = None) -> list[Tensor]:
        # In a process without rows, torchmetrics passes a 1-D tensor of the model's dtype instead of N x 5 float64.
        rows = rows.reshape(rows.numel() // COLUMNS, COLUMNS)
        return gather_all_tensors(rows.to(self.device, torch.float64), group)

    def _table(self) -> NDArray[np.float64]:
        # The state is a list before gathering and a tensor after it; an empty list cannot be concatenated.
        rows = dim_zero_cat(self.rows) if len(self.rows) else torch.empty(0, COLUMNS, dtype=torch.float64)
        return rows.cpu().numpy()

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()) -> Self:
        # `module.to(torch.bfloat16)` must not round the scores, and some devices lack float64.
        super()._apply(fn, exclude_state=(*exclude_state, "rows"))
        return self
