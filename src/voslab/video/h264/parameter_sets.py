"""Parses parameter sets of an H.264 stream (ITU-T H.264, clauses 7.3.2.1 and 7.3.2.2) from its bits."""

from __future__ import annotations

from dataclasses import dataclass

_EXTENDED_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


@dataclass(frozen=True, slots=True)
class SequenceParameterSet:
    """The fields of a sequence parameter set that slice headers depend on.

    Attributes:
        frame_number_bits: `log2_max_frame_num_minus4` + 4.
        order_type: `pic_order_cnt_type`.
        order_bits: `log2_max_pic_order_cnt_lsb_minus4` + 4; 0 for other types of order.
        order_always_zero: `delta_pic_order_always_zero_flag`.
        max_references: `max_num_ref_frames`.
        gaps: `gaps_in_frame_num_value_allowed_flag`.
        progressive: `frame_mbs_only_flag`.
        crop: `frame_crop_left_offset` and `frame_crop_top_offset`.
        depth: bit depth of luma or chroma, whichever is larger.
        chroma: `chroma_format_idc`; 0 with separate planes.
        separate_planes: `separate_colour_plane_flag`.
    """

    frame_number_bits: int
    order_type: int
    order_bits: int
    order_always_zero: bool
    max_references: int
    gaps: bool
    progressive: bool
    crop: tuple[int, int]
    depth: int
    chroma: int
    separate_planes: bool


@dataclass(frozen=True, slots=True)
class PictureParameterSet:
    """The fields of a picture parameter set that slice headers depend on.

    Attributes:
        sequence: `seq_parameter_set_id`.
        bottom_order: `bottom_field_pic_order_in_frame_present_flag`.
        active: default lengths of list 0 and list 1.
        weighted: `weighted_pred_flag`.
        weighted_pairs: `weighted_bipred_idc`.
        redundant: `redundant_pic_cnt_present_flag`.
    """

    sequence: int
    bottom_order: bool
    active: tuple[int, int]
    weighted: bool
    weighted_pairs: int
    redundant: bool


class Bits:
    """Reads a raw byte sequence payload bit by bit.

    Args:
        payload: the bytes, without emulation prevention bytes.

    Raises:
        ValueError: if a value lies beyond the end of the payload.
    """

    def __init__(self, payload: bytes) -> None:
        self._value, self._left = int.from_bytes(payload, "big"), 8 * len(payload)

    def __call__(self, count: int = 1) -> int:
        """Read an unsigned number of `count` bits, `u(n)`."""
        self._left -= count
        if self._left < 0:
            raise ValueError("a header ends too early")
        return self._value >> self._left & (1 << count) - 1

    def unsigned(self) -> int:
        """Read an unsigned Exp-Golomb number, `ue(v)`."""
        zeros = 0
        while not self():
            zeros += 1
            if zeros > 32:
                raise ValueError("a header holds an impossible number")
        return (1 << zeros) - 1 + self(zeros)

    def signed(self) -> int:
        """Read a signed Exp-Golomb number, `se(v)`."""
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def read_sps(bits: Bits) -> tuple[int, SequenceParameterSet]:
    """Parse a sequence parameter set.

    Args:
        bits: its payload.

    Returns:
        its id and its fields.

    Raises:
        ValueError: if it is damaged.
    """
    profile = bits(8)
    bits(16)
    identity = bits.unsigned()
    chroma, separate, depth = 1, False, 8
    if profile in _EXTENDED_PROFILES:
        chroma = bits.unsigned()
        separate = chroma == 3 and bool(bits())
        depth = 8 + max(bits.unsigned(), bits.unsigned())
        bits()
        if bits():
            for which in range(12 if chroma == 3 else 8):
                if bits():
                    _skip_scaling(bits, 16 if which < 6 else 64)
    number_bits = bits.unsigned() + 4
    order_type = bits.unsigned()
    order_bits = bits.unsigned() + 4 if order_type == 0 else 0
    always_zero = bool(bits()) if order_type == 1 else False
    if order_type == 1:
        bits.signed()
        bits.signed()
        for _ in range(bits.unsigned() & 255):
            bits.signed()
    references = bits.unsigned()
    gaps = bool(bits())
    bits.unsigned()
    bits.unsigned()
    progressive = bool(bits())
    bits(1 if progressive else 2)
    crop = [bits.unsigned() for _ in range(4)] if bits() else [0] * 4
    left_top = (crop[0], crop[2])
    return identity, SequenceParameterSet(
        *(number_bits, order_type, order_bits, always_zero, references, gaps, progressive, left_top, depth),
        chroma=0 if separate else chroma,
        separate_planes=separate,
    )


def read_pps(bits: Bits) -> tuple[int, PictureParameterSet]:
    """Parse a picture parameter set.

    Args:
        bits: its payload.

    Returns:
        its id and its fields.

    Raises:
        ValueError: if it is damaged or has slice groups.
    """
    identity, sequence = bits.unsigned(), bits.unsigned()
    bits()
    bottom_order = bool(bits())
    if bits.unsigned():
        raise ValueError("slice groups are not supported")
    active = (bits.unsigned() + 1, bits.unsigned() + 1)
    weighted, pairs = bool(bits()), bits(2)
    for _ in range(3):
        bits.signed()
    bits(2)
    return identity, PictureParameterSet(sequence, bottom_order, active, weighted, pairs, bool(bits()))


def _skip_scaling(bits: Bits, size: int) -> None:
    """Skip a `scaling_list`."""
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
