"""Runs a frozen CoVOS over the training videos once and caches the inputs of its decoder for every B-frame."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import VOID, DataError, Frame, Masks, ObjectTable, Segmenter, cache_key
from voslab.core.checkpoint import CheckpointMetadata
from voslab.data import EvaluationSampler, VideoSequence
from voslab.engine import Settings, run
from voslab.engine.codec_source import CodecSource
from voslab.engine.padding import pads
from voslab.methods.covos.cache.files import CachedBFrame, cached_frames, frame_path, mark_complete, write_cached
from voslab.methods.covos.codec_fields import is_key
from voslab.methods.covos.network import CoVOS, CoVOSState
from voslab.methods.covos.propagation import Propagated

log = logging.getLogger(__name__)
_VERSION = 3
"""Version of the cached files; increased when the same settings give other files."""

OnBFrame = Callable[[int, Propagated, tuple[int, int]], None]


def precompute_all(
    network: CoVOS,
    videos: Sequence[VideoSequence],
    root: Path,
    codec_source: CodecSource,
    settings: Settings,
    process: tuple[int, int] = (0, 1),
    per_video: int | None = None,
) -> list[Path]:
    """Cache this process's share of the videos that are not cached yet.

    Args:
        network: network with base and encoder as in training.
        videos: all training videos.
        root: folder of the videos' folders, named by `settings_key`.
        codec_source: source of the frames, with codec data.
        settings: settings of the engine.
        process: rank and number of processes.
        per_video: number of evenly spaced frames of a video to consider; those that are B-frames are cached. None for
            all frames.

    Returns:
        The folders of all videos, complete once all processes are done.

    Raises:
        DataError, VideoError: a video is damaged, or scaled up.
        WriteError: a folder cannot be written.
    """
    folders = [
        root / video_name(video, per_video, codec_source.vectors and codec_source.vector_file(video.source))
        for video in videos
    ]
    mine = EvaluationSampler([len(video) for video in videos], *process)
    todo = [index for index in mine if cached_frames(folders[index]) is None]
    for count, index in enumerate(todo, 1):
        frames = precompute(network, videos[index], folders[index], codec_source, settings, per_video)
        size = sum(frame_path(folders[index], frame).stat().st_size for frame in frames)
        words = (videos[index].name, len(frames), size / 2**20, count, len(todo))
        log.info("cached %s: %d B-frames, %.0f MiB (video %d of %d)", *words)
    return folders


def precompute(
    network: CoVOS,
    video: VideoSequence,
    folder: Path,
    codec_source: CodecSource,
    settings: Settings,
    per_video: int | None = None,
) -> tuple[int, ...]:
    """Run one video through the engine, write its B-frames that have masks, and mark its folder as complete.

    Returns:
        the frames written.

    Raises:
        DataError, VideoError: the video is damaged, or scaled up.
        WriteError: the folder cannot be written.
    """
    given_masks = video.given_masks()
    table = ObjectTable()
    for index in sorted(given_masks):
        table.add(np.unique(given_masks[index]).tolist())
    to_cache = _evenly_spaced([index for index, mask in enumerate(video.masks) if mask is not None], per_video)
    written: list[int] = []

    def write(index: int, propagated: Propagated, size: tuple[int, int]) -> None:
        assert propagated.features is not None, "the decoder needs features"
        objects = propagated.probs.shape[1]
        labels = _labels(video, index, ObjectTable(table.ids[:objects]), settings, network)
        assert labels.shape == size, "labels are padded like their frame"
        own, warped = propagated.features[0], None if propagated.warped is None else propagated.warped[0]
        b_frame = CachedBFrame(own, warped, propagated.probs[0], propagated.corrected[0], labels)
        write_cached(frame_path(folder, index), b_frame)
        written.append(index)

    recorder = Recorder(network, to_cache, write)
    for _ in run(recorder, codec_source.frames(video.source), given_masks, settings, mask_scope="partial"):
        pass
    mark_complete(folder, written)
    return tuple(sorted(written))


class Recorder(Segmenter[CoVOSState]):
    """A `Segmenter` that passes the decoder's inputs of every B-frame to a callback and decodes nothing.

    Args:
        network: network to run.
        to_cache: presentation indices of the frames to pass to the callback, if they are B-frames.
        on_b_frame: called with the index, the propagated masks and features, and H W of the padded frame.
    """

    codec_stride = CoVOS.codec_stride

    def __init__(self, network: CoVOS, to_cache: Collection[int], on_b_frame: OnBFrame) -> None:
        super().__init__()
        self.network = network
        self.stride, self.padding = network.stride, network.padding
        self.to_cache = to_cache
        self.on_b_frame = on_b_frame

    def begin(self, frame: Frame, masks: Masks) -> CoVOSState:
        """See `Segmenter.begin`."""
        return self.network.begin(frame, masks)

    def step(self, frame: Frame, state: CoVOSState) -> tuple[Tensor, CoVOSState]:
        """See `Segmenter.step`; returns background for B-frames."""
        if is_key(frame) or not state.slot_mask.shape[1]:
            return self.network.step(frame, state)
        propagated, state = self.network.propagate(frame, state)
        size = (frame.image.shape[-2], frame.image.shape[-1])
        if frame.index in self.to_cache:
            self.on_b_frame(frame.index, propagated, size)
        return frame.image.new_zeros(1, state.slot_mask.shape[1] + 1, *size), state

    def add(self, frame: Frame, masks: Masks, state: CoVOSState, known: Masks | None = None) -> CoVOSState:
        """See `Segmenter.add`."""
        return self.network.add(frame, masks, state, known)


def settings_key(network: CoVOS, metadata: CheckpointMetadata, settings: Settings) -> str:
    """Return a key of everything that determines the cache of a video except the video itself.

    Args:
        network: Network with base and encoder as in training. The decoder's weights do not count.
        metadata: Method, network parameters and encoding.
        settings: Settings of the engine.

    Returns:
        16 hexadecimal digits.
    """
    weights = {}
    for name, tensor in network.state_dict().items():
        if not name.startswith("decoder."):
            content = tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
            weights[name] = cache_key(str(tensor.dtype), tensor.shape, content)
    return cache_key(_VERSION, metadata.method, metadata.network, metadata.codec, asdict(settings), weights)


def video_name(video: VideoSequence, per_video: int | None = None, vectors: Path | None = None) -> str:
    """Return a folder name for a video that changes with its files.

    Args:
        video: The video.
        per_video: Number of frames of a video to consider; None for all.
        vectors: File of its motion vectors, if they are not the codec's.

    Returns:
        Name of the video and 16 hexadecimal digits.

    Raises:
        DataError: If a file is missing.
    """
    starts = sorted((video.starts or {}).items())
    try:
        files = (video.images, video.masks, video.file, *(() if vectors is None else (vectors,)))
        key = cache_key(video.merge, video.void, starts, per_video, *files)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror or error})") from error
    return f"{video.name}-{key}"


def _evenly_spaced(frames: list[int], most: int | None) -> frozenset[int]:
    if most is None or len(frames) <= most:
        return frozenset(frames)
    return frozenset(frames[(2 * i + 1) * len(frames) // (2 * most)] for i in range(most))


def _labels(video: VideoSequence, index: int, table: ObjectTable, settings: Settings, network: CoVOS) -> Tensor:
    """Return labels by slot, uint8, scaled and padded like given masks in the engine; the padding is void."""
    labels = video.labels(index)
    assert labels is not None, "cached frames have masks"
    slots = table.to_slots(labels)
    if video.void is not None:
        slots = np.where(labels == VOID, VOID, slots)
    tensor = torch.from_numpy(slots)[None, None].float()
    size = settings.working_size((slots.shape[0], slots.shape[1]))
    if size != slots.shape:
        tensor = F.interpolate(tensor, size, mode="nearest-exact")
    return F.pad(tensor, pads(size, network.stride, network.padding), value=VOID)[0, 0].byte()
