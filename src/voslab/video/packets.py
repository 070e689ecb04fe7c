"""Reads the packets of a video file in decoding order, each with its decoded frame."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.motionvectors import MotionVectors
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from voslab.core import VideoError
from voslab.video.decode import BOUNDS, damage_at, read_header, readable, to_image
from voslab.video.h264.nal import HeaderReader, Slice, has_b_pictures

_log = logging.getLogger(__name__)
_PLANAR = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray"})
_TYPES = {1: "I", 2: "P", 3: "B"}
_REORDERED = 18
"""No H.264 decoder holds more than 16 frames back: where more wait for one, it is lost."""


class NoVectorsError(VideoError):
    """A sound video whose codec or coding gives no motion vectors that can be trusted; transcode it."""


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A decoded frame, free of the decoder's memory."""

    index: int
    type: str
    image: NDArray[np.uint8]
    luma: NDArray[np.uint8]
    vectors: NDArray[np.void] | None


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet: its slice headers (none for other codecs than H.264), and its frame if that is shown."""

    slices: tuple[Slice, ...]
    decoded: DecodedFrame | None


def read_packets(path: Path) -> Iterator[Packet]:
    """Each packet with its frame, as soon as all before it have come. Damage is raised behind what came before it."""
    slices: dict[int, tuple[Slice, ...]] = {}
    waiting: dict[int, DecodedFrame] = {}
    following, damage = 0, None
    packets = _decoded(path)
    while True:
        ended = False
        try:
            order, found, shown = next(packets)
            if found is not None:
                slices[order] = found
            if any(number < following or number in waiting for number in shown):
                raise NoVectorsError(f"{path}: frame {min(p.index for p in shown.values())} has no packet of its own")
            waiting |= shown
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


def _decoded(path: Path) -> Iterator[tuple[int, tuple[Slice, ...] | None, dict[int, DecodedFrame]]]:
    """Each packet's number and slices (None: no frame), and the frames, by packet, that it brought out."""
    header, reformatter = read_header(path), VideoReformatter()
    index, size, last = 0, None, None
    with readable(path) as (container, stream):
        stream.codec_context.options = {**BOUNDS, "flags2": "+export_mvs"}
        stream.thread_type = "SLICE"  # frame threads lose vectors and invent others
        order = -1
        for order, slices, packet, seconds in numbered_packets(path, container, stream):
            last = max((time for time in (last, seconds) if time is not None), default=None)
            with damage_at(path, index):
                frames = stream.codec_context.decode(packet)
            shown = {}
            for frame in frames:
                with damage_at(path, index):
                    number, picture = _decode_frame(path, frame, index, reformatter)
                if number in shown or number > order:
                    raise NoVectorsError(f"{path}: frame {index} does not come from one packet")
                height, width = picture.luma.shape
                size = size or (height, width)
                if size != (height, width):
                    raise VideoError(
                        f"{path}: frame {index} is {width} x {height}, the frames before are {size[1]} x {size[0]}"
                    )
                shown[number] = picture
                index += 1
            yield order, slices, shown
    if index == 0:
        raise VideoError(f"{path}: no frame can be decoded; damaged, or empty")
    if order < header.promised:
        raise VideoError(f"{path}: damaged, only {index} of {header.promised} frames are there")
    if missing := header.missing(index, last):
        _log.warning("%s: %s", path, missing)


def numbered_packets(
    path: Path, container: InputContainer, stream: VideoStream
) -> Iterator[tuple[int, tuple[Slice, ...] | None, av.Packet | None, float | None]]:
    """Packets whose time stamps are their numbers in decoding order, and the seconds that these stamps were before.

    At last comes None, which empties the decoder.
    """
    context, order = stream.codec_context, -1
    if context.name not in {"h264", "mpeg4"}:
        raise NoVectorsError(f"{path}: the decoder of {context.name} gives no motion vectors")
    reader = HeaderReader(context.extradata or b"") if context.name == "h264" else None
    packets = container.demux(stream)
    while True:
        with damage_at(path, order + 1):
            packet = next(packets, None)
        if packet is None or not packet.size:
            yield order + 1, None, None, None
            return
        if packet.is_discard:
            raise NoVectorsError(f"{path}: packet {order + 1} is hidden by an edit list")
        with damage_at(path, order + 1):
            content = bytes(packet)
            slices = reader.slices(content) if reader else ()
        if reader is None and has_b_pictures(content):
            raise NoVectorsError(f"{path}: no motion vectors are known of B-frames in MPEG-4 part 2")
        for sequence in reader.sequences.values() if reader else ():
            if not sequence.progressive:
                raise NoVectorsError(f"{path}: it may be interlaced, which motion vectors are not read of")
            if any(sequence.crop):
                raise NoVectorsError(f"{path}: it is cropped at the top or the left")
            if sequence.depth > 8:
                raise NoVectorsError(f"{path}: motion vectors are read of 8-bit YUV only, not of {sequence.depth} bits")
        pictured = bool(slices) or reader is None
        order += pictured
        stamp = packet.dts if packet.pts is None else packet.pts
        seconds = None if stamp is None or packet.time_base is None else float(stamp * packet.time_base)
        packet.pts = packet.dts = max(order, 0)
        yield order, slices if pictured else None, packet, seconds


def _decode_frame(
    path: Path, frame: av.VideoFrame, index: int, reformatter: VideoReformatter
) -> tuple[int, DecodedFrame]:
    kind = _TYPES.get(int(frame.pict_type))
    if frame.is_corrupt or frame.pts is None:
        raise VideoError(f"{path}: damaged, frame {index} is incomplete")
    if kind is None or frame.interlaced_frame:
        raise NoVectorsError(f"{path}: frame {index} is interlaced, or of a type without motion vectors")
    if frame.format.name not in _PLANAR:
        raise NoVectorsError(f"{path}: motion vectors are read of 8-bit YUV only, not of {frame.format.name}")
    if "DISPLAYMATRIX" in frame.side_data:
        raise NoVectorsError(f"{path}: it is turned or mirrored when shown")
    plane = frame.planes[0]
    luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width].copy()
    vectors = frame.side_data.get("MOTION_VECTORS")
    blocks = vectors.to_ndarray() if isinstance(vectors, MotionVectors) and kind != "I" else None
    return frame.pts, DecodedFrame(index, kind, to_image(frame, reformatter), luma, blocks)
