"""Tracks the reference lists of an H.264 stream (ITU-T H.264, clauses 8.2.4 and 8.2.5).

Presentation indices replace picture order counts, because they have the same order. Fields are not supported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from voslab.video.h264.nal import Slice

HIDDEN = -1
"""Index of a frame that is decoded but never shown."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference frame in the buffer.

    Attributes:
        index: presentation index.
        number: `frame_num`.
        long_term: `LongTermFrameIdx`; None for short-term references.
    """

    index: int
    number: int
    long_term: int | None = None


@dataclass(frozen=True, slots=True)
class Buffer:
    """The reference frames of the decoded picture buffer.

    Attributes:
        references: the frames, in decoding order.
        number: `frame_num` of the last reference.
    """

    references: tuple[Reference, ...] = ()
    number: int = 0

    def indices(self) -> frozenset[int]:
        """Return the presentation indices of the reference frames."""
        return frozenset(reference.index for reference in self.references)


def reference_lists(buffer: Buffer, slices: Sequence[Slice], index: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Compute the reference lists of a frame.

    Args:
        buffer: buffer before the frame, with gaps filled (`fill_frame_num_gaps`).
        slices: headers of all slices of the frame; their lists are concatenated.
        index: presentation index of the frame.

    Returns:
        presentation indices in list 0 and list 1, without duplicates.
    """
    lists: tuple[list[int], list[int]] = ([], [])
    for header in slices:
        for which, references in enumerate(_lists(buffer, header, index)):
            lists[which].extend(reference.index for reference in references)
    return tuple(dict.fromkeys(lists[0])), tuple(dict.fromkeys(lists[1]))


def has_lost_reference(buffer: Buffer, slices: Sequence[Slice]) -> bool:
    """Whether a frame that this one may refer to was lost (clause 7.4.3).

    A stream that starts here, or a frame without references, is not an error.

    Args:
        buffer: buffer before the frame.
        slices: headers of all slices of the frame.

    Returns:
        True if `frame_num` has a gap in a stream that allows none.
    """
    header = slices[0]
    following = {buffer.number, (buffer.number + 1) % header.max_frame_number}
    has_references = any(one.active[0] for one in slices)
    return bool(buffer.references) and has_references and not header.gaps and header.frame_number not in following


def fill_frame_num_gaps(buffer: Buffer, header: Slice) -> Buffer:
    """Add hidden frames to the buffer in place of missing frame numbers (clause 8.2.5.2).

    Args:
        buffer: buffer before the frame.
        header: first slice header of the frame.

    Returns:
        the buffer without gaps.
    """
    limit, modulus = max(1, header.max_references), header.max_frame_number
    if header.idr or header.frame_number == buffer.number:
        return buffer
    missing = (header.frame_number - buffer.number - 1) % modulus
    first = header.frame_number - min(missing, limit)
    for number in range(first, header.frame_number):
        references = _slide(buffer.references, number % modulus, modulus, limit)
        buffer = Buffer((*references, Reference(HIDDEN, number % modulus)), number % modulus)
    return buffer


def mark_references(buffer: Buffer, header: Slice, index: int) -> Buffer:
    """Apply the decoded reference picture marking process after a frame (clause 8.2.5).

    Args:
        buffer: buffer before the frame, with gaps filled.
        header: first slice header of the frame.
        index: presentation index of the frame; `HIDDEN` if it is not shown.

    Returns:
        the buffer after the frame.
    """
    if not header.reference:
        return buffer
    current = Reference(index, header.frame_number)
    if header.idr:
        return Buffer((replace(current, long_term=0 if header.long_term else None),), header.frame_number)
    references, limit = buffer.references, max(1, header.max_references)
    if header.marks is None:
        references = _slide(references, header.frame_number, header.max_frame_number, limit)
    for operation, *operands in header.marks or ():
        if operation == 5:
            references, current = (), replace(current, number=0)
        elif operation == 6:
            references = tuple(r for r in references if r.long_term != operands[0])
            current = replace(current, long_term=operands[0])
        else:
            references = _mark(references, header, operation, operands)
    return Buffer((*references, current)[-limit:], current.number)


def _lists(buffer: Buffer, header: Slice, index: int) -> list[list[Reference]]:
    """Construct list 0 and list 1 of a slice (clause 8.2.4)."""
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
    lists = zip(initial, header.changes, header.active, strict=True)
    return [_modify(buffer, header, references[:active], changes, active) for references, changes, active in lists]


def _modify(
    buffer: Buffer, header: Slice, references: list[Reference], changes: tuple[tuple[int, int], ...], active: int
) -> list[Reference]:
    """Apply the modifications of a reference list (clause 8.2.4.3)."""
    predicted = header.frame_number
    for position, (operation, value) in enumerate(changes):
        if operation < 2:
            predicted = (predicted + (value + 1) * (1 if operation else -1)) % header.max_frame_number
            number = predicted - header.max_frame_number * (predicted > header.frame_number)
            matches = [r for r in buffer.references if r.long_term is None and _number(r, header) == number]
        else:
            matches = [r for r in buffer.references if r.long_term == value]
        # A missing reference occupies its position in the list.
        moved = matches[0] if matches else Reference(HIDDEN, -1)
        references = [*references[:position], moved, *(r for r in references[position:] if r is not moved)][:active]
    return references


def _mark(
    references: tuple[Reference, ...], header: Slice, operation: int, operands: list[int]
) -> tuple[Reference, ...]:
    """Apply memory management control operation 1, 2, 3 or 4 (clause 8.2.5.4)."""
    if operation in {1, 3}:
        number = header.frame_number - operands[0] - 1
        matches = [r for r in references if r.long_term is None and _number(r, header) == number]
        references = tuple(r for r in references if r not in matches)
        if operation == 3:
            references = tuple(r for r in references if r.long_term != operands[1])
            references += tuple(replace(r, long_term=operands[1]) for r in matches[:1])
    elif operation == 2:
        references = tuple(r for r in references if r.long_term != operands[0])
    elif operation == 4:
        references = tuple(r for r in references if r.long_term is None or r.long_term < operands[0])
    return references


def _slide(references: tuple[Reference, ...], number: int, modulus: int, limit: int) -> tuple[Reference, ...]:
    """Remove the oldest references until another one fits (sliding window, clause 8.2.5.3)."""
    while len(references) >= limit:
        short = [r for r in references if r.long_term is None]
        oldest = min(short or references, key=lambda r: r.number - modulus * (r.number > number))
        references = tuple(r for r in references if r is not oldest)
    return references


def _number(reference: Reference, header: Slice) -> int:
    """Return `PicNum`; frame numbers before the last wrap are negative."""
    return reference.number - header.max_frame_number * (reference.number > header.frame_number)
