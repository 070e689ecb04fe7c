"""Stores the masks of a second model, and how far they agree with those of the session."""

from __future__ import annotations

import re
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voslab.core import atomic_write
from voslab.engine import Prediction
from voslab.studio.frame_files import append_value, frame_path, read_values, stored_frames, stored_mask
from voslab.video import write_mask


class Comparison:
    """Folder of the masks of a second model.

    `predicted/` holds its masks, `agreement.csv` a line per frame, and `name.txt` the name of the model.

    Args:
        folder: The folder; created with the first mask.
        name: Name of the model.
        size: H, W of the video.
    """

    def __init__(self, folder: Path, name: str, size: tuple[int, int]) -> None:
        self.folder = folder
        self.name = name
        self._size = size
        self._named = False
        self.agreement = read_values(folder / "agreement.csv")

    @classmethod
    def of_model(cls, session: Path, name: str, files: str, size: tuple[int, int]) -> Comparison:
        """Return the masks of a model; each has a folder of its own in the session.

        Args:
            session: Folder of the session.
            name: Name of the model.
            files: Paths of its files, which tell models of the same name apart.
            size: H, W of the video.
        """
        readable = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:40]
        key = blake2b(f"{name} {files}".encode(), digest_size=4).hexdigest()
        return cls(session / "compared" / f"{readable}_{key}", name, size)

    @classmethod
    def latest(cls, session: Path, size: tuple[int, int]) -> Comparison | None:
        """Return the masks that were stored last; None if there are none.

        Args:
            session: Folder of the session.
            size: H, W of the video.
        """
        names = sorted((session / "compared").glob("*/name.txt"), key=lambda path: path.stat().st_mtime_ns)
        return cls(names[-1].parent, names[-1].read_text().strip(), size) if names else None

    def predicted(self) -> list[int]:
        """Frames with a mask, sorted."""
        return stored_frames(self.folder / "predicted")

    def mask(self, frame: int) -> NDArray[np.integer] | None:
        """Return the mask of a frame, H W; None if it has none.

        Args:
            frame: Frame number, from 0.

        Raises:
            DataError: If the file is damaged or has another size than the video.
        """
        return stored_mask(self.folder / "predicted", frame, self._size)

    def predict(self, prediction: Prediction) -> None:
        """Store a prediction, and that this model was the last one.

        Args:
            prediction: The prediction.

        Raises:
            WriteError: If it cannot be written.
        """
        if not self._named:
            atomic_write(self.folder / "name.txt", f"{self.name}\n")
            self._named = True
        write_mask(frame_path(self.folder / "predicted", prediction.index), prediction.ids)

    def compare(self, frame: int, other: NDArray[np.integer] | None) -> float | None:
        """Compare the mask of a frame with that of the session, and store the result.

        Args:
            frame: Frame number, from 0.
            other: Mask of the session, H W; None if it has none.

        Returns:
            `agreement`; None if one of the masks is missing.
        """
        mask = None if other is None else self.mask(frame)
        if mask is None or other is None:
            if self.agreement.pop(frame, None) is not None:
                append_value(self.folder / "agreement.csv", frame, None)
            return None
        value = agreement(mask, other)
        self.agreement[frame] = value
        append_value(self.folder / "agreement.csv", frame, value)
        return value


def agreement(first: NDArray[np.integer], second: NDArray[np.integer]) -> float:
    """Return the mean IoU of two label maps over the objects that are in either.

    Args:
        first: Label map H W, 0 for background.
        second: The other one, of the same size.

    Returns:
        From 0 to 1; 1 if there is no object.

    Example:
        >>> import numpy as np
        >>> from voslab.studio.comparison import agreement
        >>> agreement(np.array([[1, 1, 0, 2]]), np.array([[1, 0, 0, 2]]))
        0.75
    """
    values = []
    for identity in sorted({*np.unique(first).tolist(), *np.unique(second).tolist()} - {0}):
        one, other = first == identity, second == identity
        values.append(float((one & other).sum() / (one | other).sum()))
    return float(np.mean(values)) if values else 1.0
