"""Selects the key frames of coded video: the frames that a base model segments; all others are propagated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

from voslab.core import CodecData, ConfigError, RawFrame
from voslab.core.parameters import Count, Range

Policy = Literal["ip", "i", "every_k", "adaptive"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
LARGE = 0.05
"""A residual of [-1, 1] above which the prediction of a cell has failed."""


@dataclass(frozen=True)
class Keys:
    """Policy for key frames.

    I-frames are key frames and B-frames are not, whatever the policy: the key frame after a B-frame is segmented before
    it, and a base model sees frames in presentation order. Policies decide about P-frames, which streams of cameras
    and video calls consist of. A P-frame without any vector is a key frame too.

    Attributes:
        policy: `ip`: all P-frames are key frames. `i`: none, except after `chain` others. `every_k`: a P-frame that
            comes `every` or more frames after the last key frame. `adaptive`: a P-frame whose prediction failed in more
            than `share` of its cells, and one after `chain` others.
        every: frames from one key frame to the next.
        chain: most P-frames in a row that are propagated.
        share: share of cells, in [0, 1], with a residual above 0.05 or without a vector.

    Raises:
        ConfigError: if the policy is unknown or a number is out of range.
    """

    policy: Policy = "ip"
    every: Count = 5
    chain: Count = 8
    share: Annotated[float, Range(0, 1)] = 0.25

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(f"keys.policy={self.policy}: choose from {', '.join(POLICIES)}")
        if self.every < 1 or self.chain < 1 or not 0 <= self.share <= 1:
            wrong = f"every={self.every}, chain={self.chain}, share={self.share}"
            raise ConfigError(f"keys: {wrong}: must be at least 1, 1, and from 0 to 1")


def select_keys(frames: Iterable[RawFrame], keys: Keys) -> Iterator[RawFrame]:
    """Mark the P-frames that are propagated.

    Args:
        frames: frames in decode order, from an I-frame on.
        keys: the policy.

    Yields:
        the frames, in the same order.
    """
    if keys.policy == "ip":
        yield from frames
        return
    last, chain = -1, 0
    for frame in frames:
        codec = frame.codec
        if codec is None or codec.type == "B":
            yield frame
            continue
        if codec.type == "I" or last < 0 or _is_key(codec, frame.index - last, chain, keys):
            last, chain = frame.index, 0
            yield frame
        else:
            chain += 1
            yield replace(frame, codec=replace(codec, key=False))


def _is_key(codec: CodecData, distance: int, chain: int, keys: Keys) -> bool:
    """Whether a P-frame is a key frame: `distance` frames after the last one, and after `chain` propagated ones."""
    if codec.references is None or codec.motion is None:
        return True
    holes = (codec.references < 0).all(1, keepdim=True)
    if holes.all():
        return True
    if keys.policy == "every_k":
        return distance >= keys.every
    if chain >= keys.chain or keys.policy == "i":
        return chain >= keys.chain
    failed = holes if codec.residual is None else holes | (codec.residual.abs() > LARGE)
    return int(failed.sum()) > keys.share * failed.numel()
