"""Damage to files: of bytes, and of what JSON says."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

PLACE = st.integers(0, 2**20 - 1)
"""A share of a file's length, in parts of 2^20."""
_NUMBERS = [bytes.fromhex(word) for word in ["00000000", "ffffffff", "7fffffff", "ffffff7f", "00010000", "80000000"]]


def _at(place: int, length: int) -> int:
    return place * length >> 20


def _flip(content: bytearray, place: int, other: bytes, value: int) -> None:
    content[_at(place, len(content))] ^= 1 << value % 8


def _cut(content: bytearray, place: int, other: bytes, value: int) -> None:
    del content[_at(place, len(content)) :]


def _lose(content: bytearray, place: int, other: bytes, value: int) -> None:
    start = _at(place, len(content))
    del content[start : start + 1 + value]


def _splice(content: bytearray, place: int, other: bytes, value: int) -> None:
    start = _at(place, len(content))
    content[start:start] = other[_at(place * 7 % 2**20, len(other)) :][: 4 * value]


def _repeat(content: bytearray, place: int, other: bytes, value: int) -> None:
    start = _at(place, len(content))
    content[start:start] = content[start : start + value]


def _number(content: bytearray, place: int, other: bytes, value: int) -> None:
    start = _at(place, len(content))
    content[start : start + 4] = _NUMBERS[value % len(_NUMBERS)]


def _front(content: bytearray, place: int, other: bytes, value: int) -> None:
    """Edit a header: it is where most of what a reader believes is written."""
    start = _at(place, min(len(content), 256))
    content[start : start + 4] = _NUMBERS[value % len(_NUMBERS)]


def _end(content: bytearray, place: int, other: bytes, value: int) -> None:
    """The same for formats that keep their directory at the end."""
    content[-1 - _at(place, min(len(content), 512))] ^= value or 1


_STEP = st.tuples(
    st.sampled_from([_flip, _flip, _cut, _lose, _splice, _repeat, _number, _front, _end]), PLACE, st.integers(0, 255)
)


@st.composite
def damaged(draw: st.DrawFn, samples: Sequence[bytes]) -> tuple[int, bytes]:
    """One of several sound files, damaged in none to five places: which it is, and its bytes."""
    which = draw(st.integers(0, len(samples) - 1))
    content = bytearray(samples[which])
    other = samples[draw(st.integers(0, len(samples) - 1))]
    for step, place, value in draw(st.lists(_STEP, max_size=5)):
        if content:
            step(content, place, other, value)
    return which, bytes(content)


_NASTY = st.sampled_from(
    [
        *(None, True, -1, 0, 2**31, 2**63, 10**30, 0.5, -1e308, 1e308, "", "x", "\0", "../../x", "\ud800", "é" * 300),
        *([], {}, [[]], [None], [1, 2], {"size": [4, 6], "counts": "P"}, {"size": [10**9, 10**9], "counts": [10**18]}),
        *("<NAN>", "<INF>", "<DEEP>", "<HUGE>", "<TWICE>"),
    ]
)
_RAW = {
    '"<NAN>"': "NaN",
    '"<INF>"': "1e999",
    '"<DEEP>"': "[" * 3000 + "]" * 3000,
    '"<HUGE>"': "9" * 6000,
    '"<TWICE>"': '{"id": 1, "id": 2}',
}


@st.composite
def damaged_json(draw: st.DrawFn, content: Any) -> bytes:
    """A JSON document, none to three of whose values are replaced by something nasty, or removed."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(0, 3))):
        node, steps = content, draw(st.lists(st.integers(0, 50), min_size=1, max_size=8))
        for step in steps:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = keys[step % len(keys)]
            if step == steps[-1] or not isinstance(node[key], dict | list):
                if draw(st.booleans()) and isinstance(node, dict):
                    del node[key]
                else:
                    node[key] = copy.deepcopy(draw(_NASTY))
                break
            node = node[key]
    text = json.dumps(content)
    for marker, raw in _RAW.items():
        text = text.replace(marker, raw)
    return text.encode(errors="surrogatepass")
