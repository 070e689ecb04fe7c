"""Reads the packets of a video file in decoding order, each with its decoded frame."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.motionvectors import MotionVectors
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from voslab.core import VideoError
from voslab.video.decode import BOUNDS, damage_at, presentation_time, read_header, readable, to_image
from voslab.video.frame_index import KeyFrame, count_frames, index_packets
from voslab.video.h264.nal import HeaderReader, Slice, has_b_vop
from voslab.video.stream import Stream

_log = logging.getLogger(__name__)
_PLANAR = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray"})
_TYPES = {1: "I", 2: "P", 3: "B"}
_REORDERED = 18
"""Maximum number of frames that wait for a packet's frame. H.264 decoders delay at most 16 frames."""


class NoVectorsError(VideoError):
    """An intact video whose codec or coding provides no reliable motion vectors; it can be transcoded."""


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A decoded frame, copied from the decoder's memory.

    Attributes:
        index: presentation index.
        type: `"I"`, `"P"` or `"B"`.
        image: H W 3, RGB.
        luma: H W.
        vectors: motion vectors of libavcodec, a structured array; None if the frame has none.
        time: presentation time in seconds; None if unknown.
    """

    index: int
    type: str
    image: NDArray[np.uint8]
    luma: NDArray[np.uint8]
    vectors: NDArray[np.void] | None
    time: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet with its frame.

    Attributes:
        slices: slice headers; empty for codecs other than H.264.
        decoded: the frame; None if it is not shown.
    """

    slices: tuple[Slice, ...]
    decoded: DecodedFrame | None


def read_packets(path: Path | Stream, start: KeyFrame | None = None) -> Iterator[Packet]:
    """Yield each packet with its frame in decoding order.

    Args:
        path: a video file.
        start: key frame to start at, one of `reference_starts`; None: the first frame.

    Yields:
        packets, each as soon as its frame and all earlier ones are decoded.

    Raises:
        NoVectorsError: if the video has no reliable motion vectors.
        VideoError: if the file is damaged; the packets before the damage are yielded first.
    """
    slices: dict[int, tuple[Slice, ...]] = {}
    waiting: dict[int, DecodedFrame] = {}
    following, damage = 0, None
    packets = _decode_packets(path, start or KeyFrame(0, None))
    while True:
        ended = False
        try:
            order, headers, frames = next(packets)
            if headers is not None:
                slices[order] = headers
            if any(number < following or number in waiting for number in frames):
                raise NoVectorsError(f"{path}: frame {min(p.index for p in frames.values())} has no packet of its own")
            waiting |= frames
        except StopIteration:
            ended = True
        except VideoError as error:
            damage = error
        while following in slices and (following in waiting or ended or len(waiting) > _REORDERED):
            yield Packet(slices.pop(following), waiting.pop(following, None))
            following += 1
        if damage is not None:
            raise damage
        if ended:
            return


def reference_starts(path: Path) -> tuple[int, tuple[KeyFrame, ...]]:
    """Find the frames that no later frame refers past: IDR frames of H.264, key frames of MPEG-4.

    Args:
        path: a file that `read_packets` can read.

    Returns:
        the number of frames, and the key frames at which `read_packets` can start.

    Raises:
        VideoError: if the file is damaged.
    """
    index = index_packets(path) or count_frames(path)
    with readable(path) as (container, stream):
        orders = [
            order
            for order, slices, packet, _ in numbered_packets(path, container, stream)
            if packet is not None and (packet.is_keyframe if slices == () else slices is not None and slices[0].idr)
        ]
    # All frames before such a frame are shown before it, so that its number is its presentation index.
    starts = set(orders)
    return index.count, tuple(key for key in index.keys if key.index == 0 or key.index in starts)


def _decode_packets(
    path: Path | Stream, start: KeyFrame
) -> Iterator[tuple[int, tuple[Slice, ...] | None, dict[int, DecodedFrame]]]:
    """Yield each packet's number, its slices (None: no frame), and the frames that the decoder output, by packet."""
    header, reformatter = read_header(path), VideoReformatter()
    index, size = start.index, None
    last: Fraction | None = None
    with readable(path) as (container, stream):
        stream.codec_context.options = {**BOUNDS, "flags2": "+export_mvs"}
        stream.thread_type = "SLICE"  # frame threads lose vectors and invent others
        order = -1
        times: dict[int, Fraction | None] = {}
        if start.seek is not None:
            container.seek(start.seek, stream=stream)
        for order, slices, packet, seconds in numbered_packets(path, container, stream, start.stamp):
            last = max((time for time in (last, seconds) if time is not None), default=None)
            if slices is not None:
                times[order] = seconds
            with damage_at(path, index):
                frames = stream.codec_context.decode(packet)
            output = {}
            for frame in frames:
                with damage_at(path, index):
                    number, decoded = _decode_frame(path, frame, index, reformatter)
                if number in output or number > order:
                    raise NoVectorsError(f"{path}: frame {index} does not come from one packet")
                height, width = decoded.luma.shape
                size = size or (height, width)
                if size != (height, width):
                    raise VideoError(
                        f"{path}: frame {index} is {width} x {height}, the frames before are {size[1]} x {size[0]}"
                    )
                output[number] = replace(decoded, time=times.pop(number, None))
                index += 1
            yield order, slices, output
    if index == 0:
        raise VideoError(f"{path}: no frame can be decoded; damaged, or empty")
    if start.seek is not None:
        return
    if order < header.declared_frames:
        raise VideoError(f"{path}: damaged, only {index} of {header.declared_frames} frames are there")
    if missing := header.missing(index, last):
        _log.warning("%s: %s", path, missing)


def numbered_packets(
    path: Path | Stream, container: InputContainer, stream: VideoStream, first: int | None = None
) -> Iterator[tuple[int, tuple[Slice, ...] | None, av.Packet | None, Fraction | None]]:
    """Demux a stream and replace the time stamps of its packets by their numbers in decoding order.

    Args:
        path: file to name in errors.
        container: the open file.
        stream: its video stream.
        first: time stamp of the first packet to yield, in units of the stream; None: the first one that is read.

    Yields:
        number of the packet, its slice headers (None: no frame), the packet, and its original time stamp in seconds.
        The last packet is None, which flushes the decoder.

    Raises:
        NoVectorsError: if the video has no reliable motion vectors.
        VideoError: if the file is damaged.
    """
    context, order = stream.codec_context, -1
    if context.name not in {"h264", "mpeg4"}:
        raise NoVectorsError(f"{path}: the decoder of {context.name} gives no motion vectors")
    reader = HeaderReader(context.extradata or b"") if context.name == "h264" else None
    packets = path.packets() if isinstance(path, Stream) else container.demux(stream)
    while True:
        with damage_at(path, order + 1):
            packet = next(packets, None)
        if packet is None or not packet.size:
            yield order + 1, None, None, None
            return
        if first is not None and packet.pts != first:
            continue
        first = None
        if packet.is_discard:
            raise NoVectorsError(f"{path}: packet {order + 1} is hidden by an edit list")
        with damage_at(path, order + 1):
            content = bytes(packet)
            slices = reader.slices(content) if reader else ()
        if reader is None and has_b_vop(content):
            raise NoVectorsError(f"{path}: motion vectors of B-frames in MPEG-4 part 2 are not supported")
        for sequence in reader.sequence_sets.values() if reader else ():
            if not sequence.progressive:
                raise NoVectorsError(f"{path}: motion vectors of video that may be interlaced are not supported")
            if any(sequence.crop):
                raise NoVectorsError(f"{path}: it is cropped at the top or the left")
            if sequence.depth > 8:
                raise NoVectorsError(f"{path}: motion vectors need 8-bit YUV, this video has {sequence.depth} bits")
        has_frame = bool(slices) or reader is None
        order += has_frame
        seconds = presentation_time(packet)
        packet.pts = packet.dts = max(order, 0)
        yield order, slices if has_frame else None, packet, seconds


def _decode_frame(
    path: Path | Stream, frame: av.VideoFrame, index: int, reformatter: VideoReformatter
) -> tuple[int, DecodedFrame]:
    """Check a frame of PyAV and copy it; returns the number of its packet and the frame."""
    kind = _TYPES.get(int(frame.pict_type))
    if frame.is_corrupt or frame.pts is None:
        raise VideoError(f"{path}: damaged, frame {index} is incomplete")
    if kind is None or frame.interlaced_frame:
        raise NoVectorsError(f"{path}: frame {index} is interlaced, or of a type without motion vectors")
    if frame.format.name not in _PLANAR:
        raise NoVectorsError(f"{path}: motion vectors need 8-bit YUV, this video has {frame.format.name}")
    if "DISPLAYMATRIX" in frame.side_data:
        raise NoVectorsError(f"{path}: it is rotated or mirrored for display")
    plane = frame.planes[0]
    luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width].copy()
    vectors = frame.side_data.get("MOTION_VECTORS")
    blocks = vectors.to_ndarray() if isinstance(vectors, MotionVectors) and kind != "I" else None
    return frame.pts, DecodedFrame(index, kind, to_image(frame, reformatter), luma, blocks)
