"""An interactive session on one video: masks are set and propagated, in any order and direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from voslab.core import ConfigError, DataError, RawFrame
from voslab.engine.directions import Direction, Part, check_direction, propagate
from voslab.engine.given_masks import MaskScope
from voslab.engine.positions import find_part
from voslab.engine.prediction import Prediction
from voslab.engine.sources import OpenedSource
from voslab.methods.builder import LoadedModel
from voslab.video import MaskOptions, given_masks, read_masks

MaskSource = str | Path | Mapping[int, NDArray[Any] | str | Path]


class VideoSession:
    """Masks of one video, and their propagation. Frames are read when they are needed, and not kept.

    Args:
        model: Model in evaluation mode.
        source: The video.
        options: How masks are understood.
        probabilities: Whether predictions have probabilities.
        mask_scope: See `Predictor.segment`.

    Attributes:
        masks: Label maps H W that were set, by frame.
    """

    def __init__(
        self,
        model: LoadedModel,
        source: OpenedSource,
        options: MaskOptions,
        probabilities: bool,
        mask_scope: MaskScope | None,
    ) -> None:
        self._model = model
        self._source = source
        self._options = options
        self._probabilities = probabilities
        self._mask_scope = mask_scope
        self.masks: dict[int, NDArray[np.integer]] = {}

    @property
    def count(self) -> int | None:
        """Exact number of frames; None for streams."""
        return None if self._source.access is None else self._source.access.count

    @property
    def size(self) -> tuple[int, int] | None:
        """H, W of the video; None if it is not known before the first frame is read."""
        return self._source.size

    def image(self, frame: int) -> NDArray[np.uint8]:
        """Read an image of the video.

        Args:
            frame: Frame number, from 0.

        Returns:
            H W 3 uint8, RGB.

        Raises:
            ConfigError: If the source is a stream.
            DataError: If there is no such frame.
            VideoError: If it cannot be decoded.
        """
        self.check_frame(frame)
        return next(self.frames(frame, frame + 1)).image

    def frames(self, start: int, stop: int) -> Iterator[RawFrame]:
        """Read a range of frames in order; a video file is decoded once.

        Args:
            start: First frame number, from 0.
            stop: Frame number after the last one.

        Returns:
            An iterator over frames, which raises VideoError where one cannot be decoded.

        Raises:
            ConfigError: If the source is a stream.
        """
        access = self._source.access
        if access is None:
            raise ConfigError("the images of a stream can be read in order only; give a file, a folder or a list")
        return access.between(start, stop)

    def set_mask(self, frame: int, mask: NDArray[Any] | str | Path) -> None:
        """Set the mask of a frame: the first one, a correction, or a new object. It replaces an earlier one.

        Args:
            frame: Frame number, from 0.
            mask: H W integer label map, or path of a mask image.

        Raises:
            DataError: If there is no such frame, or the mask has a wrong type or size.
        """
        size = self._source.size
        labels = given_masks({frame: mask}, size, self._options)[frame]
        self.check_frame(frame)
        if size is not None and labels.shape != size:
            raise DataError(
                f"the mask of frame {frame} is {labels.shape[0]}x{labels.shape[1]}, the video {size[0]}x{size[1]}"
            )
        self.masks[int(frame)] = labels.copy()

    def remove_mask(self, frame: int) -> None:
        """Remove the mask of a frame.

        Args:
            frame: Frame number, from 0.

        Raises:
            DataError: If no mask is set there.
        """
        if self.masks.pop(frame, None) is None:
            raise DataError(f"no mask is set for frame {frame}")

    def propagate(
        self, direction: Direction = "both", start: int | str | None = None, end: int | str | None = None
    ) -> Iterator[Prediction]:
        """Propagate the masks that are set now. Masks that are set later take effect in the next call.

        Args:
            direction: See `Predictor.segment`.
            start: First frame of the part, whatever the direction: a frame number, or a time such as `12.5s`.
            end: Last frame of the part.

        Returns:
            A generator of predictions, as of `Predictor.segment`; each is computed when it is asked for. `close()`
            stops it. Masks outside the part are memorised right before the first mask inside it.

        Raises:
            ConfigError: If `direction`, `start` or `end` do not fit the video.
            DataError: If no mask is set from `start` to `end`.
        """
        if not self.masks:
            raise DataError("no mask is set: call set_mask first")
        return self.propagate_masks(dict(sorted(self.masks.items())), direction, start, end)

    def propagate_masks(
        self,
        masks: Mapping[int, NDArray[np.integer]],
        direction: Direction,
        start: int | str | None,
        end: int | str | None,
    ) -> Iterator[Prediction]:
        """Propagate masks that are not set in the session; see `propagate`.

        Args:
            masks: Label maps H W by frame.
            direction: See `propagate`.
            start: See `propagate`.
            end: See `propagate`.
        """
        part = self._part(direction, start, end)
        model = self._model
        return propagate(
            *(model.segmenter, self._source.frames, masks, part, model.settings, self._probabilities, self._mask_scope)
        )

    def read_masks(self, masks: MaskSource) -> Mapping[int, NDArray[np.integer]]:
        """Validate label maps, or find the files of a mask path; files are read when they are needed.

        Args:
            masks: See `Predictor.segment`.

        Returns:
            Label maps H W by frame.

        Raises:
            DataError: If there is no mask, or one has a wrong type or size.
        """
        names, size = self._source.names, self._source.size
        if isinstance(masks, str | Path):
            return read_masks(masks, None if names is None else len(names), names, size, self._options)
        if not isinstance(masks, Mapping):
            raise DataError(f"masks are a {type(masks).__name__}: give a path, or a dict of label maps by frame index")
        if not masks:
            raise DataError("no mask is given: masks is empty")
        # Other mappings, such as those of `read_masks`, read their masks on access.
        if isinstance(masks, dict):
            return given_masks(masks, size, self._options)
        return cast(Mapping[int, NDArray[np.integer]], masks)

    def _part(self, direction: Direction, start: int | str | None, end: int | str | None) -> Part:
        first, last = find_part(start, end, self._source.access)
        return Part(check_direction(direction), first, last)

    def check_frame(self, frame: int) -> None:
        """Check that the video has a frame.

        Args:
            frame: Frame number, from 0.

        Raises:
            DataError: If it has no such frame.
        """
        count = self.count
        if count is not None and not 0 <= frame < count:
            raise DataError(f"frame {frame}: the frames of the video are 0 to {count - 1}")
