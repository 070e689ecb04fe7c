"""Copies the audio of a video file into another file."""

from __future__ import annotations

import logging
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from voslab.core import VideoError
from voslab.video.decode import presentation_time, readable

_log = logging.getLogger(__name__)


class AudioCopy:
    """Copies audio packets into an output, without encoding them again, up to one time after another.

    Without audio nothing is copied. Audio that the output's format cannot hold is left out with a warning, and so is
    the rest if the time stamps jump back or the file is damaged.

    Args:
        source: the video file.
        target: file to name in messages.
        container: the output; no packet has been written to it yet.
    """

    def __init__(self, source: Path, target: Path, container: OutputContainer) -> None:
        self._source, self._target, self._container = source, target, container
        self._stream: AudioStream | None = None
        self._packets = self._read()
        self._next = next(self._packets, None)

    def copy_until(self, time: Fraction, origin: Fraction) -> None:
        """Copy the packets that start before a time.

        Args:
            time: time in the source, in seconds.
            origin: time of the source at which the output starts; earlier packets are skipped.
        """
        while self._next is not None and (start := presentation_time(self._next)) is not None and start < time:
            packet = self._next
            self._next = next(self._packets, None)
            if start < origin:
                continue
            ticks = round(origin / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - ticks
            packet.dts = None if packet.dts is None else packet.dts - ticks
            packet.stream = self._stream
            self._container.mux(packet)

    def close(self) -> None:
        """Close the source."""
        self._packets.close()

    def _read(self) -> Generator[av.Packet]:
        """Yield the audio packets; before the first one, the output gets its audio stream."""
        last: Fraction | None = None
        try:
            with readable(self._source) as (container, _):
                if (stream := self._template(container)) is None:
                    return
                self._stream = self._container.add_stream_from_template(stream)
                for packet in container.demux(stream):
                    if not packet.size or (time := presentation_time(packet)) is None:
                        continue
                    if last is not None and time < last:
                        raise VideoError(f"{self._source}: the time stamps of the audio jump back")
                    last = time
                    yield packet
        except VideoError as error:
            _log.warning("%s; the audio of %s ends there", error, self._target)

    def _template(self, container: InputContainer) -> AudioStream | None:
        stream = container.streams.best("audio")
        context = getattr(stream, "codec_context", None)
        if not isinstance(stream, AudioStream) or context is None:
            return None
        name = context.codec.canonical_name
        if name not in self._container.supported_codecs:
            kind = self._target.suffix
            _log.warning("%s: its audio (%s) does not fit into %s, which is written without", self._source, name, kind)
            return None
        return stream
