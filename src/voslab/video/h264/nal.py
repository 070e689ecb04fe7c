"""Parses the parts of H.264 slice headers that determine references (ITU-T H.264, clause 7.3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from voslab.video.h264.parameter_sets import Bits, PictureParameterSet, SequenceParameterSet, read_pps, read_sps

_HEADER_BYTES = 1024
"""Number of bytes of a slice that are parsed; headers are shorter."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The header of a slice.

    Attributes:
        type: `"P"`, `"B"`, `"I"`, `"SP"` or `"SI"`.
        reference: whether other frames may refer to this one (`nal_ref_idc` is not 0).
        idr: whether it belongs to an IDR picture: later frames do not refer to earlier ones.
        frame_number: `frame_num`, modulo `max_frame_number`.
        max_frame_number: `MaxFrameNum`.
        max_references: `max_num_ref_frames`.
        active: lengths of list 0 and list 1.
        changes: per list, the modifications (`modification_of_pic_nums_idc`, value).
        marks: operations (`memory_management_control_operation`, operands …); None for the sliding window.
        long_term: `long_term_reference_flag` of an IDR picture.
        implicit: whether the weights of bi-predictions follow from the distances (`weighted_bipred_idc` is 2).
        gaps: whether the encoder may leave frame numbers out.
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
    """Reads the slice headers of one stream in decoding order, and stores its parameter sets.

    Args:
        extradata: codec data of the container: an `avcC` record, Annex B, or nothing.

    Attributes:
        sequence_sets: sequence parameter sets by id.
        picture_sets: picture parameter sets by id.
    """

    def __init__(self, extradata: bytes) -> None:
        self.sequence_sets: dict[int, SequenceParameterSet] = {}
        self.picture_sets: dict[int, PictureParameterSet] = {}
        self._length_size = 0
        if extradata[:1] == b"\x01" and len(extradata) > 6:
            self._length_size = (extradata[4] & 3) + 1
            self._read(_parameter_sets(extradata))
        else:
            self._read(nal_units(extradata, 0))

    def slices(self, packet: bytes) -> tuple[Slice, ...]:
        """Parse the headers of the slices in a packet.

        Args:
            packet: content of the packet.

        Returns:
            the headers, in order.

        Raises:
            ValueError: if a header is damaged.
        """
        return tuple(self._read(nal_units(packet, self._length_size)))

    def _read(self, units: Iterator[bytes]) -> list[Slice]:
        slices = []
        for unit in units:
            unit_type = unit[0] & 31
            if unit_type in {1, 5, 7, 8}:
                bits = Bits(unit[1:_HEADER_BYTES].replace(b"\0\0\3", b"\0\0"))
                if unit_type == 7:
                    identity, sps = read_sps(bits)
                    self.sequence_sets[identity] = sps
                elif unit_type == 8:
                    identity, pps = read_pps(bits)
                    self.picture_sets[identity] = pps
                else:
                    slices.append(self._slice(bits, unit[0] >> 5 & 3 > 0, unit_type == 5))
        return slices

    def _slice(self, bits: Bits, reference: bool, idr: bool) -> Slice:
        bits.unsigned()
        slice_type = ("P", "B", "I", "SP", "SI")[bits.unsigned() % 5]
        pps = self.picture_sets.get(bits.unsigned())
        sps = self.sequence_sets.get(pps.sequence) if pps else None
        if pps is None or sps is None:
            raise ValueError("a slice names a parameter set that was not sent")
        bits(2 * sps.separate_planes)
        number = bits(sps.frame_number_bits)
        field = not sps.progressive and bits() and bits() + 1
        if idr:
            bits.unsigned()
        if sps.order_type == 0:
            bits(sps.order_bits)
            if pps.bottom_order and not field:
                bits.signed()
        elif sps.order_type == 1 and not sps.order_always_zero:
            bits.signed()
            if pps.bottom_order and not field:
                bits.signed()
        if pps.redundant:
            bits.unsigned()
        lists = {"P": 1, "SP": 1, "B": 2}.get(slice_type, 0)
        if slice_type == "B":
            bits()
        active = pps.active
        if lists and bits():
            active = (bits.unsigned() + 1, bits.unsigned() + 1 if lists == 2 else active[1])
        active = (active[0] if lists else 0, active[1] if lists == 2 else 0)
        changes = tuple(_changes(bits) if lists > which and bits() else () for which in range(2))
        if (lists == 1 and pps.weighted) or (lists == 2 and pps.weighted_pairs == 1):
            _skip_weights(bits, active, sps.chroma)
        marks, long_term = _marks(bits, idr) if reference else (None, False)
        return Slice(
            *(slice_type, reference, idr, number, 1 << sps.frame_number_bits, sps.max_references, active),
            changes=(changes[0], changes[1]),
            marks=marks,
            long_term=long_term,
            implicit=lists == 2 and pps.weighted_pairs == 2,
            gaps=sps.gaps,
        )


def nal_units(data: bytes, length_size: int) -> Iterator[bytes]:
    """Split data into NAL units.

    Args:
        data: content of a packet or of extradata.
        length_size: bytes of the length before each unit; 0: units are separated by start codes (Annex B).

    Yields:
        the units that are not empty.
    """
    if not length_size:
        yield from filter(None, re.split(rb"\x00\x00\x01", data)[1:])
        return
    end = 0
    while end + length_size < len(data):
        start = end + length_size
        end = start + int.from_bytes(data[end:start], "big")
        if end > start:
            yield data[start:end]


def has_b_vop(packet: bytes) -> bool:
    """Whether a packet of MPEG-4 part 2 holds a B-VOP (ISO/IEC 14496-2, 6.2.5)."""
    return re.search(rb"\x00\x00\x01\xb6[\x80-\xbf]", packet) is not None


def _parameter_sets(record: bytes) -> Iterator[bytes]:
    """Yield the units of an `avcC` record (ISO/IEC 14496-15, 5.3.3.1)."""
    offset = 5
    for mask in (31, 255):
        count, offset = record[offset] & mask if offset < len(record) else 0, offset + 1
        for _ in range(count):
            size = int.from_bytes(record[offset : offset + 2], "big")
            if unit := record[offset + 2 : offset + 2 + size]:
                yield unit
            offset += 2 + size


def _changes(bits: Bits) -> tuple[tuple[int, int], ...]:
    """Parse `ref_pic_list_modification` of one list."""
    changes = []
    while (operation := bits.unsigned()) != 3:
        changes.append((operation, bits.unsigned()))
    return tuple(changes)


def _skip_weights(bits: Bits, active: tuple[int, int], chroma: int) -> None:
    """Skip `pred_weight_table`."""
    bits.unsigned()
    if chroma:
        bits.unsigned()
    for _ in range(sum(active)):
        for numbers in (2, 4)[: 2 if chroma else 1]:
            if bits():
                for _ in range(numbers):
                    bits.signed()


def _marks(bits: Bits, idr: bool) -> tuple[tuple[tuple[int, ...], ...] | None, bool]:
    """Parse `dec_ref_pic_marking`: the operations, and `long_term_reference_flag`."""
    if idr:
        bits()
        return None, bool(bits())
    if not bits():
        return None, False
    marks = []
    while operation := bits.unsigned():
        marks.append((operation, *(bits.unsigned() for _ in range({3: 2, 5: 0}.get(operation, 1)))))
    return tuple(marks), False
