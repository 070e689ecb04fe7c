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
from voslab.studio.frames import FrameCache
from voslab.studio.project import Project
from voslab.studio.propagation import Propagation
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
    """

    session: VideoSession
    project: Project
    proposer: Proposer
    export: Export
    exports: list[str]
    title: str
    model: str

    def __post_init__(self) -> None:
        count = self.session.count
        if count is None:
            raise ConfigError(f"{self.title}: a stream cannot be annotated; record it to a file first")
        self.count: int = count
        self.frames = FrameCache(self.session.image)
        self.propagation = Propagation(self.project.predict)
        self.lock = threading.Lock()
        for frame in self.project.given():
            mask = self.project.mask(frame)
            assert mask is not None
            self.session.set_mask(frame, mask)

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
            **self.progress(0),
        }

    def objects(self) -> list[dict[str, Any]]:
        """The objects, with the colours in which they are drawn."""
        return [{**asdict(one), "color": _hex(one.id)} for one in self.project.objects.values()]

    def progress(self, after: int) -> dict[str, Any]:
        """State of the propagation, and frames that it predicted after an earlier answer."""
        progress, number, updates = self.propagation.progress(after)
        return {"propagation": asdict(progress), "update": number, "updates": updates}

    def give(self, frame: int, mask: NDArray[np.integer]) -> None:
        """Store a mask that the user made."""
        with self.lock:
            self.session.check_frame(frame)
            self.project.give(frame, mask)
            self.session.set_mask(frame, mask)

    def forget(self, frame: int) -> None:
        """Delete a mask that the user made."""
        with self.lock:
            self.project.forget(frame)
            self.session.masks.pop(frame, None)

    def propagate(self, direction: Direction, start: int, end: int) -> bool:
        """Start a propagation; false while another one runs."""
        self.session.check_frame(start)
        self.session.check_frame(end)
        with self.lock:
            return self.propagation.start(self.session.propagate(direction, start, end), end - start + 1)

    def save(self, names: list[str]) -> list[str]:
        """Write outputs from the stored masks, and return their paths."""
        if unknown := sorted({*names} - {*self.exports}):
            raise ConfigError(f"{unknown[0]}: no such output (there are {', '.join(self.exports)})")
        known = {*self.project.given(), *self.project.predicted()}
        if not known:
            raise DataError("there is no mask to export")
        frames = self.session.frames(min(known), max(known) + 1)
        stored = (self.project.stored(frame.index, frame.image) for frame in frames if frame.index in known)
        return self.export(names, stored)


def _hex(number: int) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in colour(np.array(number)).tolist())
