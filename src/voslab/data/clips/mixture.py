"""Several training sources side by side: how many clips of each, and what each does its own way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence as ListOf
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from voslab.core import ConfigError, DataError
from voslab.data.clips.dataset import ClipSettings, ClipSource, VideoClips
from voslab.data.clips.sampling import Curriculum, Milestones
from voslab.data.video_sequence import Sequence

log = logging.getLogger(__name__)


@runtime_checkable
class Drawable(Protocol):
    """Whatever becomes a `ClipSource` once it is known how clips are drawn, such as `PseudoClips`."""

    def clips(self, settings: ClipSettings) -> ClipSource:
        """Open it."""
        ...


Videos = Callable[[], tuple[Sequence, ...]] | tuple[Sequence, ...]
Source = Videos | Drawable


@dataclass(frozen=True)
class Part:
    """One of several training sources.

    Attributes:
        source: videos, or a function that lists them, or something `Drawable`.
        repeats: how often an epoch goes through its videos or stills.
        weight: instead of that, its share of the `clips_per_epoch`, against the weights of the others; 0 leaves it out.
        gap: as in `ClipSettings`, like the attributes below; None: as the other sources do.
        curriculum: replaces the most of `gap`.
        every: frames of the video from one frame of the source to the next; 5 for YouTube-VOS at 6 fps.
        reverse: chance to run backwards.
        max_objects: most targets.
        min_area: of a target.
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
        """Those of all sources, with what this one does its own way."""
        names = ("gap", "curriculum", "every", "reverse", "max_objects", "min_area")
        own: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.gap is not None:
            own.setdefault("curriculum", None)  # which would go before it
        return replace(common, **own)


@dataclass(frozen=True)
class Mixture:
    """Opened sources and the clips of each in an epoch."""

    sources: tuple[ClipSource, ...]
    counts: tuple[int, ...]


def mix(
    train: Source | Part | ListOf[Source | Part],
    settings: ClipSettings,
    clips_per_epoch: int | None,
    skip_limit: float = 0.0,
) -> Mixture:
    """Open training sources.

    Without weights each source gives its places times its repeats, or, of `clips_per_epoch`, as large a share as that.
    Videos that are too short are left out where they are no more than `skip_limit` of their source.

    Raises:
        ConfigError: weights for some sources only, or without `clips_per_epoch`.
        DataError: a source is damaged, has nothing, or its videos are too short.
    """
    parts = [one if isinstance(one, Part) else Part(one) for one in _listed(train)]
    weights = [part.weight for part in parts if part.weight is not None]
    if weights and (len(weights) < len(parts) or clips_per_epoch is None):
        raise ConfigError("data: weights need clips_per_epoch, and one for every source")
    if weights and not any(weights):
        raise ConfigError("data: all sources are left out, as their weights are 0")
    parts = [part for part in parts if part.weight != 0]
    weights = [weight for weight in weights if weight]
    sources = tuple(_open(part.source, part.settings(settings), skip_limit) for part in parts)
    natural = [len(source) * part.repeats for source, part in zip(sources, parts, strict=True)]
    if clips_per_epoch is None:
        return Mixture(sources, tuple(natural))
    return Mixture(sources, _shares(clips_per_epoch, [float(share) for share in weights or natural]))


def _listed(train: Source | Part | ListOf[Source | Part]) -> list[Source | Part]:
    if isinstance(train, list | tuple) and not all(isinstance(one, Sequence) for one in train):
        return list(train)
    return [train]  # type: ignore[list-item]


def _open(source: Source, settings: ClipSettings, skip_limit: float) -> ClipSource:
    if isinstance(source, Drawable):
        return source.clips(settings)
    videos = source() if callable(source) else source
    if not videos:
        raise DataError("data: a training source has no videos")
    short = [video.name for video in videos if len(video) < settings.frames]
    if 0 < len(short) <= skip_limit * len(videos):
        log.warning("left out, as too short for clips of %d frames: %s", settings.frames, ", ".join(short))
        videos = tuple(video for video in videos if len(video) >= settings.frames)
    return VideoClips(tuple(videos), settings)


def _shares(total: int, weights: list[float]) -> tuple[int, ...]:
    """Whole numbers as near to the weights as can be that add up to the total: the largest remainders get one more."""
    if total < len(weights):
        raise ConfigError(f"data: clips_per_epoch={total} is fewer than the {len(weights)} sources")
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in exact]
    for number in sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])[: total - sum(counts)]:
        counts[number] += 1
    return tuple(counts)
