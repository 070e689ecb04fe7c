"""Runs a frozen CoVOS over training videos once, and keeps what its decoder sees of every B-frame as files."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection
from collections.abc import Sequence as ListOf
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import VOID, DataError, Frame, Masks, ObjectTable
from voslab.data import EvaluationSampler, Sequence
from voslab.engine import Settings, run
from voslab.engine.codec_source import CodecSource
from voslab.engine.padding import pads
from voslab.methods.covos.cache.files import CachedBFrame, cached_frames, frame_path, mark_complete, write_cached
from voslab.methods.covos.codec_fields import is_key
from voslab.methods.covos.network import CoVOS, CoVOSState
from voslab.methods.covos.propagation import Propagated

log = logging.getLogger(__name__)
_VERSION = 2
"""Of the files; another number when the same settings give others."""

Hand = Callable[[int, Propagated, tuple[int, int]], None]


def precompute_all(
    network: CoVOS,
    videos: ListOf[Sequence],
    root: Path,
    codec_source: CodecSource,
    settings: Settings,
    process: tuple[int, int] = (0, 1),
    per_video: int | None = None,
) -> list[Path]:
    """Carry this process's share of the videos that are not carried yet.

    Args:
        network: base and F as they are in training.
        videos: all of them.
        root: their folders go here; see `settings_key`.
        coding: of the videos.
        settings: of the engine.
        process: rank, and how many share the work.
        per_video: so many evenly spread frames of a video are looked at, those of them that are B-frames are kept;
            None: all.

    Returns:
        the folders of all videos, finished once all processes are.

    Raises:
        DataError, VideoError: a video is damaged, or scaled up.
        WriteError: a folder cannot be written.
    """
    folders = [root / video_name(video, per_video) for video in videos]
    mine = EvaluationSampler([len(video) for video in videos], *process)
    todo = [index for index in mine if cached_frames(folders[index]) is None]
    for count, index in enumerate(todo, 1):
        frames = precompute(network, videos[index], folders[index], codec_source, settings, per_video)
        size = sum(frame_path(folders[index], frame).stat().st_size for frame in frames)
        words = (videos[index].name, len(frames), size / 2**20, count, len(todo))
        log.info("carried %s: %d B-frames, %.0f MiB (video %d of %d)", *words)
    return folders


def precompute(
    network: CoVOS,
    video: Sequence,
    folder: Path,
    codec_source: CodecSource,
    settings: Settings,
    per_video: int | None = None,
) -> tuple[int, ...]:
    """Run one video through the engine, write its B-frames with masks, and finish its folder.

    Returns:
        the frames written.

    Raises:
        DataError, VideoError: the video is damaged, or scaled up.
        WriteError: the folder cannot be written.
    """
    given = video.given()
    table = ObjectTable()
    for index in sorted(given):
        table.add(np.unique(given[index]).tolist())
    wanted = _spread([index for index, mask in enumerate(video.masks) if mask is not None], per_video)
    written: list[int] = []

    def write(index: int, propagated: Propagated, size: tuple[int, int]) -> None:
        assert propagated.features is not None, "a decoder sees features"
        objects = propagated.probs.shape[1]
        labels = _labels(video, index, ObjectTable(table.ids[:objects]), settings, network)
        assert labels.shape == size, "labels are padded like their frame"
        own, carried = propagated.features[0], None if propagated.carried is None else propagated.carried[0]
        picture = CachedBFrame(own, carried, propagated.probs[0], propagated.corrected[0], labels)
        write_cached(frame_path(folder, index), picture)
        written.append(index)

    for _ in run(Recorder(network, wanted, write), codec_source.pictures(video.source), given, settings):
        pass
    mark_complete(folder, written)
    return tuple(sorted(written))


class Recorder(nn.Module):
    """A `Segmenter` that hands over what a CoVOS' decoder would see of a B-frame, and decodes nothing.

    Args:
        network: what runs.
        wanted: presentation indices of the frames that are handed over, where they are B-frames.
        hand: gets the index, what was propagated, and H W of the padded frame.
    """

    def __init__(self, network: CoVOS, wanted: Collection[int], hand: Hand) -> None:
        super().__init__()
        self.network = network
        self.stride, self.padding = network.stride, network.padding
        self.wanted = wanted
        self.hand = hand

    def begin(self, frame: Frame, masks: Masks) -> CoVOSState:
        """See `Segmenter.begin`."""
        return self.network.begin(frame, masks)

    def step(self, frame: Frame, state: CoVOSState) -> tuple[Tensor, CoVOSState]:
        """See `Segmenter.step`; B-frames come out as background."""
        if is_key(frame) or not state.slot_mask.shape[1]:
            return self.network.step(frame, state)
        propagated, state = self.network.propagate(frame, state)
        size = (frame.image.shape[-2], frame.image.shape[-1])
        if frame.index in self.wanted:
            self.hand(frame.index, propagated, size)
        return frame.image.new_zeros(1, state.slot_mask.shape[1] + 1, *size), state

    def add(self, frame: Frame, masks: Masks, state: CoVOSState) -> CoVOSState:
        """See `Segmenter.add`."""
        return self.network.add(frame, masks, state)


def settings_key(network: CoVOS, identity: dict[str, Any], settings: Settings) -> str:
    """Names everything that decides what is carried, but the video: switches, encoding, size, weights of base and F."""
    digest = hashlib.sha256(json.dumps([_VERSION, identity, asdict(settings)], sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        if not name.startswith("decoder."):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def video_name(video: Sequence, per_video: int | None = None) -> str:
    """Names a video and its files as they are now. Raises `DataError` where one is missing."""
    rules = [video.merge, video.void, sorted((video.starts or {}).items()), per_video]
    digest = hashlib.sha256(json.dumps(rules).encode())
    for part in (*video.images, *video.masks, *([] if video.file is None else [video.file])):
        digest.update(_described(part).encode())
    return f"{video.name}-{digest.hexdigest()[:12]}"


def _described(part: Any) -> str:
    if not isinstance(part, Path):
        return repr(part)
    try:
        found = part.stat()
    except OSError as error:
        raise DataError(f"{part}: cannot be read ({error.strerror or error})") from error
    return f"{part.resolve()} {found.st_size} {found.st_mtime_ns}"


def _spread(frames: list[int], most: int | None) -> frozenset[int]:
    if most is None or len(frames) <= most:
        return frozenset(frames)
    return frozenset(frames[(2 * place + 1) * len(frames) // (2 * most)] for place in range(most))


def _labels(video: Sequence, index: int, table: ObjectTable, settings: Settings, network: CoVOS) -> Tensor:
    """Labels by slot, uint8, scaled and padded as the engine does with given masks; the padding is void."""
    labels = video.labels(index)
    assert labels is not None, "wanted frames have masks"
    slots = table.to_slots(labels)
    if video.void is not None:
        slots = np.where(labels == VOID, VOID, slots)
    tensor = torch.from_numpy(slots)[None, None].float()
    size = settings.working_size((slots.shape[0], slots.shape[1]))
    if size != slots.shape:
        tensor = F.interpolate(tensor, size, mode="nearest-exact")
    return F.pad(tensor, pads(size, network.stride, network.padding), value=VOID)[0, 0].byte()
