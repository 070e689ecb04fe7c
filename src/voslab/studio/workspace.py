"""A session on a video and everything that the page does with it, without the web."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voslab.core import ConfigError, DataError
from voslab.engine import Prediction
from voslab.engine.directions import Direction
from voslab.studio.comparison import Comparison
from voslab.studio.frames import FrameCache, FrameReader
from voslab.studio.internals import Internals
from voslab.studio.project import Project
from voslab.studio.propagation import Propagation, Update
from voslab.studio.proposer import Proposer
from voslab.video.palette import colour
from voslab.video_session import VideoSession

Export = Callable[[list[str], Iterator[Prediction]], list[str]]


@dataclass
class Studio:
    """A session on a video, and what the page can do with it.

    Attributes:
        session: The video and the model.
        project: Where masks are stored.
        proposer: Makes masks from boxes and clicks.
        export: Writes outputs by their names from predictions in order; returns the paths.
        exports: Names of the outputs.
        title: Name of the video.
        model: Name of the model.
        second: The video and a second model that is compared; None: masks that it stored earlier are shown.
        compared: Masks of the second model.
        internals: Images of the internals that the model declares.
    """

    session: VideoSession
    project: Project
    proposer: Proposer
    export: Export
    exports: list[str]
    title: str
    model: str
    second: VideoSession | None = None
    compared: Comparison | None = None
    internals: Internals | None = None

    def __post_init__(self) -> None:
        count = self.session.count
        if count is None:
            raise ConfigError(f"{self.title}: a stream cannot be annotated; record it to a file first")
        self.count: int = count
        self.reader = FrameReader(lambda start: self.session.frames(start, count))
        self.frames = FrameCache(self.image)
        self.propagation = Propagation()
        self.lock = threading.Lock()

    def image(self, frame: int) -> NDArray[np.uint8]:
        """Read an image of the video, H W 3."""
        self.session.check_frame(frame)
        return self.reader.read(frame)

    def state(self) -> dict[str, Any]:
        """Everything that the page needs at its start."""
        return {
            "title": self.title,
            "model": self.model,
            "count": self.count,
            "size": self.project.size,
            "objects": self.objects(),
            "given": self.project.given(),
            "predicted": self.project.predicted(),
            "uncertainty": sorted(self.project.uncertainty.items()),
            "exports": self.exports,
            "folder": str(self.project.folder),
            "compared": self._comparison(),
            "internals": [] if self.internals is None else list(self.internals.names),
            **self.progress(0),
        }

    def objects(self) -> list[dict[str, Any]]:
        """The objects, with the colours in which they are drawn."""
        return [{**asdict(one), "color": _hex(one.id)} for one in self.project.objects.values()]

    def progress(self, after: int) -> dict[str, Any]:
        """State of the propagation, and frames that it predicted after an earlier answer."""
        progress, number, updates = self.propagation.progress(after)
        return {"propagation": asdict(progress), "update": number, "updates": updates}

    def give(self, frame: int, mask: NDArray[np.integer]) -> float | None:
        """Store a mask that the user made, and return its agreement with the second model."""
        with self.lock:
            self.session.check_frame(frame)
            self.project.give(frame, mask)
            return self._compare(frame)

    def forget(self, frame: int) -> float | None:
        """Delete a mask that the user made, and return the agreement of what remains with the second model."""
        with self.lock:
            self.project.forget(frame)
            return self._compare(frame)

    def propagate(
        self, direction: Direction, start: int, end: int, second: bool = False, internals: bool = False
    ) -> bool:
        """Start a propagation; false while another one runs.

        Args:
            direction: See `VideoSession.propagate`.
            start: First frame.
            end: Last frame.
            second: Whether the second model propagates.
            internals: Whether internals are stored, which goes with `forward` and the first model.
        """
        self.session.check_frame(start)
        self.session.check_frame(end)
        session = self.second if second else self.session
        if session is None:
            raise ConfigError("there is no second model: start the program with compare.checkpoint=FILE")
        if internals and (self.internals is None or second or direction != "forward"):
            raise ConfigError("internals are recorded forward, and where the first model declares some")
        with self.lock:
            masks = self.project.given_masks()
            if not masks:
                raise DataError("no mask is set: make one first")
            predictions = session.propagate_masks(masks, direction, start, end)
            if internals and self.internals is not None:
                predictions = self.internals.recorded(predictions, masks)
            return self.propagation.start(
                predictions, end - start + 1, self._predict_second if second else self._predict
            )

    def _predict(self, prediction: Prediction) -> Update:
        value = self.project.predict(prediction)
        return Update(prediction.index, value, self._compare(prediction.index))

    def _predict_second(self, prediction: Prediction) -> Update:
        assert self.compared is not None, "it comes with the second model"
        self.compared.predict(prediction)
        return Update(prediction.index, None, self._compare(prediction.index))

    def _compare(self, frame: int) -> float | None:
        return None if self.compared is None else self.compared.compare(frame, self.project.mask(frame))

    def _comparison(self) -> dict[str, Any] | None:
        if self.compared is None:
            return None
        return {
            "name": self.compared.name,
            "ready": self.second is not None,
            "predicted": self.compared.predicted(),
            "agreement": sorted(self.compared.agreement.items()),
        }

    def save(self, names: list[str]) -> list[str]:
        """Write outputs from the stored masks, and return their paths."""
        if unknown := sorted({*names} - {*self.exports}):
            raise ConfigError(f"{unknown[0]}: no such output (there are {', '.join(self.exports)})")
        known = {*self.project.given(), *self.project.predicted()}
        if not known:
            raise DataError("there is no mask to export")
        frames = self.session.frames(min(known), max(known) + 1)
        stored = (self.project.stored(frame.index, frame.image, frame.time) for frame in frames if frame.index in known)
        return self.export(names, stored)


def _hex(number: int) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in colour(np.array(number)).tolist())
