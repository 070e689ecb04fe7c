"""Parses slice headers of an H.264 stream that determine its references (ITU-T H.264, clause 7.3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from voslab.video.h264.parameter_sets import Bits, PictureParameters, SequenceParameters, read_picture, read_sequence

_HEADER_BYTES = 1024
"""More than any slice header takes; the rest of a slice is not looked at."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The header of a slice.

    Attributes:
        type: `"P"`, `"B"`, `"I"`, `"SP"` or `"SI"`.
        reference: the frame is one that others may refer to (`nal_ref_idc` is not 0).
        idr: it starts anew: nothing behind it refers to anything before it.
        frame_number: `frame_num`, modulo `max_frame_number`.
        max_references: size of the decoded picture buffer.
        active: length of both lists.
        changes: per list, the commands (operation, value) that reorder it.
        marks: commands (operation, operands …) on the buffer; None for the sliding window.
        long_term: an IDR picture is to be a long-term reference.
        implicit: weights of a bi-prediction follow from the distances.
        gaps: frames before it may be missing on purpose.
    """

    type: str
    reference: bool
    idr: bool
    frame_number: int
    max_frame_number: int
    max_references: int
    active: tuple[int, int]
    changes: tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]
    marks: tuple[tuple[int, ...], ...] | None
    long_term: bool
    implicit: bool
    gaps: bool = False


class HeaderReader:
    """Reads the packets of one stream in decoding order and keeps its parameter sets.

    Attributes:
        sequences: sequence parameter sets by id.
        pictures: picture parameter sets by id.
    """

    def __init__(self, extradata: bytes) -> None:
        """`extradata`: of the codec; an `avcC` record, Annex B, or nothing."""
        self.sequences: dict[int, SequenceParameters] = {}
        self.pictures: dict[int, PictureParameters] = {}
        self._length_size = 0
        if extradata[:1] == b"\x01" and len(extradata) > 6:
            self._length_size = (extradata[4] & 3) + 1
            self._read(_parameter_sets(extradata))
        else:
            self._read(units(extradata, 0))

    def slices(self, packet: bytes) -> tuple[Slice, ...]:
        """Headers of the slices in a packet. Raises `ValueError` for what cannot be a header."""
        return tuple(self._read(units(packet, self._length_size)))

    def _read(self, found: Iterator[bytes]) -> list[Slice]:
        slices = []
        for unit in found:
            kind = unit[0] & 31
            if kind in {1, 5, 7, 8}:
                bits = Bits(unit[1:_HEADER_BYTES].replace(b"\0\0\3", b"\0\0"))
                if kind == 7:
                    identity, sequence = read_sequence(bits)
                    self.sequences[identity] = sequence
                elif kind == 8:
                    identity, picture = read_picture(bits)
                    self.pictures[identity] = picture
                else:
                    slices.append(self._slice(bits, unit[0] >> 5 & 3 > 0, kind == 5))
        return slices

    def _slice(self, bits: Bits, reference: bool, idr: bool) -> Slice:
        bits.unsigned()
        kind = ("P", "B", "I", "SP", "SI")[bits.unsigned() % 5]
        picture = self.pictures.get(bits.unsigned())
        sequence = self.sequences.get(picture.sequence) if picture else None
        if picture is None or sequence is None:
            raise ValueError("a slice names a parameter set that was not sent")
        bits(2 * sequence.separate_planes)
        number = bits(sequence.frame_number_bits)
        field = not sequence.progressive and bits() and bits() + 1
        if idr:
            bits.unsigned()
        if sequence.order_type == 0:
            bits(sequence.order_bits)
            if picture.bottom_order and not field:
                bits.signed()
        elif sequence.order_type == 1 and not sequence.order_always_zero:
            bits.signed()
            if picture.bottom_order and not field:
                bits.signed()
        if picture.redundant:
            bits.unsigned()
        lists = {"P": 1, "SP": 1, "B": 2}.get(kind, 0)
        if kind == "B":
            bits()
        active = picture.active
        if lists and bits():
            active = (bits.unsigned() + 1, bits.unsigned() + 1 if lists == 2 else active[1])
        active = (active[0] if lists else 0, active[1] if lists == 2 else 0)
        changes = tuple(_changes(bits) if lists > place and bits() else () for place in range(2))
        if (lists == 1 and picture.weighted) or (lists == 2 and picture.weighted_pairs == 1):
            _skip_weights(bits, active, sequence.chroma)
        marks, long_term = _marks(bits, idr) if reference else (None, False)
        return Slice(
            *(kind, reference, idr, number, 1 << sequence.frame_number_bits, sequence.max_references, active),
            changes=(changes[0], changes[1]),
            marks=marks,
            long_term=long_term,
            implicit=lists == 2 and picture.weighted_pairs == 2,
            gaps=sequence.gaps,
        )


def units(data: bytes, length_size: int) -> Iterator[bytes]:
    """Split a packet into its NAL units: by their lengths (of `length_size` bytes), or by start codes if that is 0."""
    if not length_size:
        yield from filter(None, re.split(rb"\x00\x00\x01", data)[1:])
        return
    at = 0
    while at + length_size < len(data):
        start = at + length_size
        at = start + int.from_bytes(data[at:start], "big")
        if at > start:
            yield data[start:at]


def has_b_pictures(packet: bytes) -> bool:
    """Whether a packet of MPEG-4 part 2 holds a B-VOP (ISO/IEC 14496-2, 6.2.5)."""
    return re.search(rb"\x00\x00\x01\xb6[\x80-\xbf]", packet) is not None


def _parameter_sets(record: bytes) -> Iterator[bytes]:
    """The units in an `avcC` record (ISO/IEC 14496-15, 5.3.3.1)."""
    at = 5
    for mask in (31, 255):
        count, at = record[at] & mask if at < len(record) else 0, at + 1
        for _ in range(count):
            size = int.from_bytes(record[at : at + 2], "big")
            if unit := record[at + 2 : at + 2 + size]:
                yield unit
            at += 2 + size


def _changes(bits: Bits) -> tuple[tuple[int, int], ...]:
    found = []
    while (operation := bits.unsigned()) != 3:
        found.append((operation, bits.unsigned()))
    return tuple(found)


def _skip_weights(bits: Bits, active: tuple[int, int], chroma: int) -> None:
    bits.unsigned()
    if chroma:
        bits.unsigned()
    for _ in range(sum(active)):
        for numbers in (2, 4)[: 2 if chroma else 1]:
            if bits():
                for _ in range(numbers):
                    bits.signed()


def _marks(bits: Bits, idr: bool) -> tuple[tuple[tuple[int, ...], ...] | None, bool]:
    if idr:
        bits()
        return None, bool(bits())
    if not bits():
        return None, False
    found = []
    while operation := bits.unsigned():
        found.append((operation, *(bits.unsigned() for _ in range({3: 2, 5: 0}.get(operation, 1)))))
    return tuple(found), False
