"""Combines training sources: clips per source and settings that differ between sources."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from voslab.core import ConfigError, DataError
from voslab.data.clips.dataset import ClipSettings, ClipSource, VideoClips
from voslab.data.clips.sampling import Curriculum, Milestones
from voslab.data.video_sequence import VideoSequence

log = logging.getLogger(__name__)


@runtime_checkable
class Drawable(Protocol):
    """Anything that becomes a `ClipSource` with given clip settings, such as `PseudoClips`."""

    def clips(self, settings: ClipSettings) -> ClipSource:
        """Open the source."""
        ...


Videos = Callable[[], tuple[VideoSequence, ...]] | tuple[VideoSequence, ...]
Source = Videos | Drawable


@dataclass(frozen=True)
class WeightedSource:
    """One of several training sources.

    `gap` and the attributes after it override those of `ClipSettings`; None keeps the common value.

    Attributes:
        source: Videos, a function that lists them, or a `Drawable`.
        repeats: Number of clips per video or image in an epoch.
        weight: Relative weight of the source in `clips_per_epoch`, instead of `repeats`; 0 disables the source.
        gap: Minimum and maximum frame gap.
        curriculum: Maximum gap by epoch, instead of that of `gap`.
        every: Frames of the video per frame of the source; 5 for YouTube-VOS at 6 fps.
        reverse: Probability of a reversed clip.
        max_objects: Maximum number of targets.
        min_area: Minimum area of a target in pixels.

    Raises:
        ConfigError: If `repeats` is not positive or `weight` is negative.
    """

    source: Source
    repeats: int = 1
    weight: float | None = None
    gap: tuple[int, int] | None = None
    curriculum: Curriculum | Milestones | None = None
    every: int | None = None
    reverse: float | None = None
    max_objects: int | None = None
    min_area: int | None = None

    def __post_init__(self) -> None:
        if self.repeats < 1 or (self.weight is not None and self.weight < 0):
            raise ConfigError(f"data: repeats={self.repeats} must be positive, weight={self.weight} not negative")

    def settings(self, common: ClipSettings) -> ClipSettings:
        """Return the common settings with the overrides of this source."""
        names = ("gap", "curriculum", "every", "reverse", "max_objects", "min_area")
        own: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.gap is not None:
            own.setdefault("curriculum", None)  # it would take precedence over the gap
        return replace(common, **own)


@dataclass(frozen=True)
class Mixture:
    """Opened sources and the number of clips of each per epoch."""

    sources: tuple[ClipSource, ...]
    counts: tuple[int, ...]


def open_mixture(
    train: Source | WeightedSource | Sequence[Source | WeightedSource],
    settings: ClipSettings,
    clips_per_epoch: int | None,
    least: int = 1,
) -> Mixture:
    """Open training sources.

    Without weights, a source contributes its number of videos or images times `repeats`; with `clips_per_epoch`, clips
    are distributed in these proportions.

    Args:
        train: A training source or a list of them.
        settings: Common clip settings.
        clips_per_epoch: Total number of clips per epoch; None for the natural number.
        least: Minimum number of clips per epoch without `clips_per_epoch`; smaller data are repeated.

    Returns:
        The opened sources and their numbers of clips.

    Raises:
        ConfigError: If only some sources have weights, or weights are given without `clips_per_epoch`.
        DataError: If a source is damaged or empty, or all of its videos are too short.
    """
    parts = [source if isinstance(source, WeightedSource) else WeightedSource(source) for source in _as_list(train)]
    weights = [part.weight for part in parts if part.weight is not None]
    if weights and (len(weights) < len(parts) or clips_per_epoch is None):
        raise ConfigError("data: weights need clips_per_epoch, and one for every source")
    if weights and not any(weights):
        raise ConfigError("data: the weights of all sources are 0")
    parts = [part for part in parts if part.weight != 0]
    weights = [weight for weight in weights if weight]
    sources = tuple(_open(part.source, part.settings(settings)) for part in parts)
    natural = [len(source) * part.repeats for source, part in zip(sources, parts, strict=True)]
    if clips_per_epoch is None and sum(natural) < least:
        log.warning("the data have %d clips an epoch; they are repeated to fill a batch of %d", sum(natural), least)
        clips_per_epoch = least
    if clips_per_epoch is None:
        return Mixture(sources, tuple(natural))
    return Mixture(sources, _shares(clips_per_epoch, [float(share) for share in weights or natural]))


def _as_list(train: Source | WeightedSource | Sequence[Source | WeightedSource]) -> list[Source | WeightedSource]:
    if isinstance(train, list | tuple) and not all(isinstance(source, VideoSequence) for source in train):
        return list(train)
    return [train]  # type: ignore[list-item]


def _open(source: Source, settings: ClipSettings) -> ClipSource:
    if isinstance(source, Drawable):
        return source.clips(settings)
    videos = source() if callable(source) else source
    if not videos:
        raise DataError("data: a training source has no videos")
    long = tuple(video for video in videos if len(video) >= settings.frames)
    # If all are too short, the error names the first.
    for video in videos if long else ():
        if len(video) < settings.frames:
            log.warning("%s: left out, %d frames are too few for clips of %d", video.name, len(video), settings.frames)
    return VideoClips(long or tuple(videos), settings)


def _shares(total: int, weights: list[float]) -> tuple[int, ...]:
    """Distribute a total in proportion to weights by the largest remainder method."""
    if total < len(weights):
        raise ConfigError(f"data: clips_per_epoch={total} is fewer than the {len(weights)} sources")
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in exact]
    for number in sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])[: total - sum(counts)]:
        counts[number] += 1
    return tuple(counts)
