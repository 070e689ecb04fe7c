"""Combines training sources: clips per source and settings that differ between sources."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from voslab.core import ConfigError, DataError, MissingDataSetError
from voslab.data.clips.dataset import ClipSettings, ClipSource, VideoClips
from voslab.data.clips.sampling import Curriculum, Milestones
from voslab.data.video_sequence import VideoSequence

log = logging.getLogger(__name__)
T = TypeVar("T")


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
        optional_at: Default folder of a data set that may be absent: the source is left out if it is configured to read
            that folder and no part of the data set is there. In any other folder a missing data set is an error.
        instead_of: Name of an earlier source that this one replaces if that one is absent; otherwise it is left out.
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
    optional_at: Path | str | None = None
    instead_of: str | None = None
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


Training = Source | WeightedSource | Sequence[Source | WeightedSource] | Mapping[str, Source | WeightedSource]
"""Training sources as configured: one, a list, or named."""


@dataclass(frozen=True)
class Mixture:
    """Opened sources and the number of clips of each per epoch.

    Attributes:
        names: Names of the sources; their places in the list if they have none.
        sources: The sources.
        counts: Number of clips of each source per epoch.
        absent: Reasons why optional sources were left out, by name.
    """

    names: tuple[str, ...]
    sources: tuple[ClipSource, ...]
    counts: tuple[int, ...]
    absent: Mapping[str, str]

    def describe_absence(self, val: Sequence[VideoSequence] = ()) -> str:
        """Describe in one line which data sets are absent and what that means for training.

        Args:
            val: Validation videos.
        """
        missing = "; ".join(f"{name} is missing ({reason})" for name, reason in self.absent.items())
        parts = [f"data: {missing}; this run trains on {' and '.join(self.names)} alone"]
        if all(isinstance(source, VideoClips) and _single(source.sequences) for source in self.sources):
            parts.append("every clip has one object, so nothing is learned about several")
        if val and _single(val):
            parts.append(f"the {len(val)} validation videos have one object each")
        return "; ".join(parts)


def named_sources(train: Training) -> dict[str, WeightedSource]:
    """List training sources.

    Args:
        train: Training sources as configured.

    Returns:
        The sources by name, in order; in a list, the names are the places.

    Raises:
        ConfigError: If `instead_of` names no earlier source.
    """
    if isinstance(train, Mapping):
        found = dict(train)
    elif isinstance(train, list | tuple) and not all(isinstance(source, VideoSequence) for source in train):
        found = {str(place): source for place, source in enumerate(train)}
    else:
        found = {"0": train}  # type: ignore[dict-item]
    sources = {name: one if isinstance(one, WeightedSource) else WeightedSource(one) for name, one in found.items()}
    names = list(sources)
    for place, (name, source) in enumerate(sources.items()):
        if source.instead_of is not None and source.instead_of not in names[:place]:
            raise ConfigError(f"data.train.{name}: instead_of={source.instead_of} is no source before it")
    return sources


def open_mixture(train: Training, settings: ClipSettings, clips_per_epoch: int | None, least: int = 1) -> Mixture:
    """Open training sources.

    Without weights, a source contributes its number of videos or images times `repeats`; with `clips_per_epoch`, clips
    are distributed in these proportions. An absent source leaves its share to the others.

    Args:
        train: Training sources as configured.
        settings: Common clip settings.
        clips_per_epoch: Total number of clips per epoch; None for the natural number.
        least: Minimum number of clips per epoch without `clips_per_epoch`; smaller data are repeated.

    Returns:
        The opened sources and their numbers of clips.

    Raises:
        ConfigError: If only some sources have weights, or weights are given without `clips_per_epoch`.
        DataError: If a source is damaged or empty, all of its videos are too short, or all optional sources are absent.
    """
    parts = named_sources(train)
    weights = [part.weight for part in parts.values() if part.weight is not None]
    if weights and (len(weights) < len(parts) or clips_per_epoch is None):
        raise ConfigError("data: weights need clips_per_epoch, and one for every source")
    if weights and not any(weights):
        raise ConfigError("data: the weights of all sources are 0")
    parts = {name: part for name, part in parts.items() if part.weight != 0}
    opened, absent = open_present(parts, lambda part: _open(part.source, part.settings(settings)))
    sources = tuple(opened.values())
    natural = [len(source) * parts[name].repeats for name, source in opened.items()]
    shares = [parts[name].weight or 0 for name in opened] if weights else [float(number) for number in natural]
    if clips_per_epoch is None and sum(natural) < least:
        log.warning("the data have %d clips an epoch; they are repeated to fill a batch of %d", sum(natural), least)
        clips_per_epoch = least
    counts = tuple(natural) if clips_per_epoch is None else _shares(clips_per_epoch, shares)
    return Mixture(tuple(opened), sources, counts, absent)


def open_present(
    parts: Mapping[str, WeightedSource], opener: Callable[[WeightedSource], T]
) -> tuple[dict[str, T], dict[str, str]]:
    """Open the sources whose data sets are present.

    Args:
        parts: Sources by name.
        opener: Opens a source.

    Returns:
        The opened sources, and the reasons why the others are absent, by name. Substitutes that are not needed are in
        neither.

    Raises:
        DataError: If a source that is not optional is missing, or all are absent.
    """
    opened: dict[str, T] = {}
    absent: dict[str, str] = {}
    for name, part in parts.items():
        if part.instead_of in opened:
            continue
        try:
            opened[name] = opener(part)
        except MissingDataSetError as error:
            if part.optional_at is None or error.root != Path(part.optional_at):
                raise
            absent[name] = str(error).split("; ")[0]
    if not opened:
        raise DataError(f"data: no training source is present: {'; '.join(dict.fromkeys(absent.values()))}")
    return opened, absent


def _single(videos: Sequence[VideoSequence]) -> bool:
    return all(video.merge for video in videos)


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
