"""Tracks the reference lists of an H.264 stream (ITU-T H.264, clauses 8.2.4 and 8.2.5).

Presentation indices stand for picture order counts, as they have the same order. Frames only, no fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from voslab.video.h264.nal import Slice

HIDDEN = -1
"""Index of a frame that was decoded but is never shown."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A frame in the buffer: its presentation index, `frame_num`, and `LongTermFrameIdx` if it is a long-term one."""

    index: int
    number: int
    long_term: int | None = None


@dataclass(frozen=True, slots=True)
class Buffer:
    """The decoded picture buffer before a picture: the references, and `frame_num` of the last one."""

    references: tuple[Reference, ...] = ()
    number: int = 0

    def indices(self) -> frozenset[int]:
        """Presentation indices of the frames to keep."""
        return frozenset(reference.index for reference in self.references)


def reference_lists(buffer: Buffer, slices: Sequence[Slice], index: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Presentation indices of the frames in list 0 and list 1, each once, in the order of the lists.

    Args:
        buffer: before the frame, with gaps filled (`fill_frame_num_gaps`).
        slices: all headers of the frame; their lists are joined.
        index: presentation index of the frame.
    """
    joined: tuple[list[int], list[int]] = ([], [])
    for header in slices:
        for place, found in enumerate(_lists(buffer, header, index)):
            joined[place].extend(reference.index for reference in found)
    return tuple(dict.fromkeys(joined[0])), tuple(dict.fromkeys(joined[1]))


def has_lost_reference(buffer: Buffer, slices: Sequence[Slice]) -> bool:
    """Whether a frame that this one may refer to never came, though the stream leaves none out (clause 7.4.3).

    Where nothing came before, or nothing is referred to, the stream was cut there.
    """
    header = slices[0]
    following = {buffer.number, (buffer.number + 1) % header.max_frame_number}
    refers = any(one.active[0] for one in slices)
    return bool(buffer.references) and refers and not header.gaps and header.frame_number not in following


def fill_frame_num_gaps(buffer: Buffer, header: Slice) -> Buffer:
    """The buffer in which frames that never came stand as hidden ones (clause 8.2.5.2)."""
    limit, modulus = max(1, header.max_references), header.max_frame_number
    if header.idr or header.frame_number == buffer.number:
        return buffer
    missing = (header.frame_number - buffer.number - 1) % modulus
    first = header.frame_number - min(missing, limit)
    for number in range(first, header.frame_number):
        kept = _slide(buffer.references, number % modulus, modulus, limit)
        buffer = Buffer((*kept, Reference(HIDDEN, number % modulus)), number % modulus)
    return buffer


def after(buffer: Buffer, header: Slice, index: int) -> Buffer:
    """The buffer after a picture: its marking of references is carried out (clause 8.2.5)."""
    if not header.reference:
        return buffer
    own = Reference(index, header.frame_number)
    if header.idr:
        return Buffer((replace(own, long_term=0 if header.long_term else None),), header.frame_number)
    kept, limit = buffer.references, max(1, header.max_references)
    if header.marks is None:
        kept = _slide(kept, header.frame_number, header.max_frame_number, limit)
    for operation, *operands in header.marks or ():
        if operation == 5:
            kept, own = (), replace(own, number=0)
        elif operation == 6:
            kept = tuple(r for r in kept if r.long_term != operands[0])
            own = replace(own, long_term=operands[0])
        else:
            kept = _marked(kept, header, operation, operands)
    return Buffer((*kept, own)[-limit:], own.number)


def _lists(buffer: Buffer, header: Slice, index: int) -> list[list[Reference]]:
    long = sorted((r for r in buffer.references if r.long_term is not None), key=lambda r: r.long_term or 0)
    short = [r for r in buffer.references if r.long_term is None]
    if header.type == "B":
        past = sorted((r for r in short if r.index < index), key=lambda r: -r.index)
        future = sorted((r for r in short if r.index > index), key=lambda r: r.index)
        initial = [[*past, *future, *long], [*future, *past, *long]]
        if len(initial[1]) > 1 and initial[0] == initial[1]:
            initial[1][:2] = initial[1][1::-1]
    else:
        initial = [[*sorted(short, key=lambda r: -_number(r, header)), *long], []]
    pairs = zip(initial, header.changes, header.active, strict=True)
    return [_changed(buffer, header, found[:active], changes, active) for found, changes, active in pairs]


def _changed(
    buffer: Buffer, header: Slice, found: list[Reference], changes: tuple[tuple[int, int], ...], active: int
) -> list[Reference]:
    predicted = header.frame_number
    for place, (operation, value) in enumerate(changes):
        if operation < 2:
            predicted = (predicted + (value + 1) * (1 if operation else -1)) % header.max_frame_number
            number = predicted - header.max_frame_number * (predicted > header.frame_number)
            wanted = [r for r in buffer.references if r.long_term is None and _number(r, header) == number]
        else:
            wanted = [r for r in buffer.references if r.long_term == value]
        # What is missing holds its place all the same.
        picked = wanted[0] if wanted else Reference(HIDDEN, -1)
        found = [*found[:place], picked, *(r for r in found[place:] if r is not picked)][:active]
    return found


def _marked(kept: tuple[Reference, ...], header: Slice, operation: int, operands: list[int]) -> tuple[Reference, ...]:
    if operation in {1, 3}:
        number = header.frame_number - operands[0] - 1
        named = [r for r in kept if r.long_term is None and _number(r, header) == number]
        kept = tuple(r for r in kept if r not in named)
        if operation == 3:
            kept = tuple(r for r in kept if r.long_term != operands[1])
            kept += tuple(replace(r, long_term=operands[1]) for r in named[:1])
    elif operation == 2:
        kept = tuple(r for r in kept if r.long_term != operands[0])
    elif operation == 4:
        kept = tuple(r for r in kept if r.long_term is None or r.long_term < operands[0])
    return kept


def _slide(kept: tuple[Reference, ...], number: int, modulus: int, limit: int) -> tuple[Reference, ...]:
    while len(kept) >= limit:
        short = [r for r in kept if r.long_term is None]
        oldest = min(short or kept, key=lambda r: r.number - modulus * (r.number > number))
        kept = tuple(r for r in kept if r is not oldest)
    return kept


def _number(reference: Reference, header: Slice) -> int:
    """`PicNum`: frame numbers before the last wrap are negative."""
    return reference.number - header.max_frame_number * (reference.number > header.frame_number)
